// Package admin owns the commands that change or show who may speak to the
// collector (board, user and token) and those of its backups and maintenances. A command runs inside the collector that
// holds the data directory, reached through its control socket, or in the
// caller's own process where no collector runs. Both ways run the same code.
//
// What a script needs stands alone on stdout, explanations go to stderr.
package admin
