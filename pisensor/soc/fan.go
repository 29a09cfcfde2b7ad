package soc

import (
	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// fan is the speed of a fan that the kernel's pwm-fan driver can count, as on
// a Pi 5. The kernel says 0 also while the fan turns slowly
// (raspberrypi/linux#7556): 0 alone is no fault.
func fan(r source.Roots) *source.Value {
	return source.NewValue(report.FanSpeed, source.Integer, func() []string {
		return source.Labelled(hwmon(r), "name", []string{"pwmfan"}, "fan1_input")
	})
}
