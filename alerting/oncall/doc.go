// Package oncall decides who is on call at a time, and the times and people of an escalation.
//
// It owns oncall.yml: people and their channels, rotas with their layers and hand-over times, and policies. All of it is
// pure: a parsed file and a time give an answer. It refuses to page, to store, and to look at a clock.
package oncall

// IANA's time zones come along: a hand-over at 09:00 in Berlin must not depend on the zones that the machine has
// installed.
import _ "time/tzdata"
