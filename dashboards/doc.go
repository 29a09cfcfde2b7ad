// Package dashboards owns everything a browser sees: the HTTP routes, the login,
// and the embedded web page. The live websocket is that of package live.
//
// It reads boards, incidents and series through the fields of Options and
// never writes a reading. It imports neither the collector nor the sensor.
package dashboards
