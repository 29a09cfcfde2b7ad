// Package e2e tests the collector and pisensor from outside, as the programs that people start: by their commands, their
// pages and APIs, their receivers and their files, with processes that are really killed and disks that are really full.
// It has no code of its own.
//
// The first test that needs a program builds both once. BRAMBLE_TEST_PROGRAMS names a directory with programs that are
// built already; BRAMBLE_ENDURANCE=1 adds the tests that take minutes.
package e2e
