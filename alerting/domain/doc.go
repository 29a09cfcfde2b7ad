// Package domain makes one failure one page: it finds the switch, rack, NFS server or site that explains the alerts of
// several boards, and that domain's own alert represents theirs.
//
// It owns the decision, which is pure, and the loop that applies it between the journal and the pager. It keeps nothing on
// disk: the caller journals the alerts of domains, and the pager writes down the alerts that wait for a decision.
package domain
