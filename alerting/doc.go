// Package alerting decides when readings are worth a page and carries the page out.
//
// It owns rules (Prometheus rule YAML), the state of every alert, the routing, grouping, silences and inhibition
// (Alertmanager's packages), incidents, acknowledgements and the journalled delivery of pages. It refuses to store
// series, to decide that a board is silent, and to speak to boards.
//
// The way through it goes forward only: an Engine turns readings into transitions, the caller journals them and hands
// them to a Pager, the Pager writes pages into its database and sends them from there.
//
// A panic where domains are decided costs an alert its domain and never its page: the state is made anew from what fires.
// One where a page is made or sent costs that try. One in routing ends the process: what Alertmanager's parts hold in memory
// cannot be made anew while they run, and a restart delivers from the database and the caller's journal.
package alerting
