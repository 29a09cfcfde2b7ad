// Package database is the way of alerting's packages to their tables in the state database: writes that wait at one time
// go in one transaction, and frequent queries stay compiled. It owns no table.
package database
