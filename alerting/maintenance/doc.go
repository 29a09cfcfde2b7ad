// Package maintenance keeps announced work: times in which nobody is paged for the alerts that matchers cover.
//
// It owns the table of maintenances, the part of the fleet that matchers cover, and the confirmation that a large part
// needs. It does not end a maintenance by itself: the pager closes one, and notifies of the alerts that still fire.
package maintenance
