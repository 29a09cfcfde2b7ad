//go:build !linux

package sensor

func newAlarm() alarm { return newGoAlarm() }
