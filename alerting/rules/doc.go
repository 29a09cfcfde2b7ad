// Package rules decides when readings are worth an alert.
//
// It owns rule files (Prometheus' YAML, expressions in MetricsQL), the state of every alert, decisions on arrival and from
// the store, recording rules, customers' thresholds, and Prometheus' API of rules. It turns readings into transitions and
// says how a condition stands. It refuses to know where an alert goes: it imports neither Alertmanager nor a database, and
// asks the store through small interfaces.
package rules
