// Package alert holds the values that the packages of alerting pass to each other: the state of an alert and its
// transitions, the labels and annotations that decide where it goes, the identity of the domains that boards share, and
// an alert's words. It decides nothing, keeps nothing, and imports no engine, database or Alertmanager.
package alert
