// Package admin owns the commands on boards, users, tokens, backups and maintenances. A command runs inside the
// collector that holds the data directory, reached through its control socket, or in the caller's own process where no
// collector runs. Both ways run the same code.
//
// The values that a script needs stand alone on stdout, explanations go to stderr.
package admin
