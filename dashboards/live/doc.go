// Package live keeps the newest reading of every series of every board and passes changes to browsers, by websocket.
//
// It decides nothing and stores nothing: readings come in by Publish, and Options.Tenancy names a board's customer. What it
// spends on browsers has bounds: their number, the boards that each looks at, and the messages that wait for each.
//
// # Protocol
//
// The websocket is one of JSON text messages. Times are Unix milliseconds.
//
// A browser sends at most 4 KiB a message:
//
//	{"type":"subscribe","fleet":true}      snapshot of all boards, then their changes, at most 10 messages a second
//	{"type":"subscribe","board":"r1-01"}   each reading of that board at once
//	{"type":"unsubscribe","board":"r1-01"} or {"type":"unsubscribe","fleet":true}
//	{"type":"watch","board":"r1-01"}       ask for a live lease (1 Hz); renew it before "until"
//
// The server sends:
//
//	{"type":"hello","now":…,"version":"…","user":"…","role":"operator",
//	    "web":"/static/…/"}             a page with other files reloads itself
//	{"type":"time","now":…}                every 2 s
//	{"type":"fleet","now":…,"full":true,"boards":[{"board":"r1-01","at":…,"up":1,
//	    "temperature":61.2,"requested":1.2e9,"measured":1.2e9,"throttled":["under_voltage"]}]}
//	    "full" replaces all that was known, else each named board is replaced. A value
//	    that the board does not have is absent, never zero. "throttled" is absent when the
//	    board does not report throttle bits, and empty when it reports that none is set.
//	{"type":"reading","board":"r1-01","at":…,"values":{"pi_soc_temperature_celsius":61.2}}
//	    null where the series has no value from now on
//	{"type":"subscribed","board":"r1-01"}  from here on each reading comes: a query made now has those of before
//	{"type":"skipped"}                     readings of a subscribed board were left out: query the range
//	{"type":"incidents","incidents":[…]}   the list of /api/incidents, after each change
//	{"type":"watching","board":"r1-01","until":…}
//	{"type":"error","error":"…"}           the last request was refused
//
// A browser that reads too slowly misses messages, and gets a full snapshot when it
// has caught up; one that takes nothing for 10 s is disconnected.
package live
