// Package incident holds incidents: the alerts of one group from the first page to the resolve, with their title and
// severity, acknowledgement, pages and events.
//
// It owns an incident's row in the state database and the words that describe it. It pages nobody, and it does not
// escalate: package alerting does.
package incident
