package sim

import "math"

// Work is the work of a board's cores in one second.
type Work struct {
	Busy   float64 // cores, 0 to the model's number
	Peak   float64 // the busiest core's share in the busiest 100 ms, 0 to 1: the share that the governor sees
	Vector bool    // dense vector code (video, matrices), which draws more power
}

// Load returns a board's work in the second that begins at a Unix time. It is a pure function of
// that time, so that a board's past does not depend on when somebody looked. A nil Load is an idle
// board.
type Load func(unix int64) Work

// Hours of the day in seconds.
const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
)

// dice returns a number in [0, 1) that depends on nothing but its arguments
// (the finaliser of splitmix64; Steele, Lea and Flood, OOPSLA 2014).
func dice(seed uint64, slot int64) float64 {
	z := seed + uint64(slot)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

// Idle is a board that only keeps itself alive: a few milliseconds of work a
// second, and now and then a timer that makes the governor jump.
func Idle(seed uint64) Load {
	return func(unix int64) Work {
		w := Work{Busy: 0.01 + 0.02*dice(seed, unix), Peak: 0.05}
		if dice(seed^1, unix) < 0.01 {
			w.Busy, w.Peak = 0.12, 1
		}
		return w
	}
}

// Steady keeps some cores busy all the time, as a batch job or a video encoder does.
func Steady(seed uint64, cores float64) Load {
	return func(unix int64) Work {
		wobble := 0.95 + 0.05*dice(seed, unix)
		return Work{Busy: cores * wobble, Peak: min(1, cores)}
	}
}

// Cron is an idle board with jobs: seconds every five minutes, a minute every
// hour, and a long one each night, all on one core.
func Cron(seed uint64) Load {
	idle := Idle(seed)
	night := 2*hour + int64(dice(seed^2, 0)*2*hour)
	return func(unix int64) Work {
		short := int64(3 + 6*dice(seed^3, unix/(5*minute)))
		long := int64(30 + 40*dice(seed^4, unix/hour))
		ofDay := unix % day
		if unix%(5*minute) < short || unix%hour < long || ofDay >= night && ofDay < night+20*minute {
			return Work{Busy: 0.97 + 0.05*dice(seed, unix), Peak: 1}
		}
		return idle(unix)
	}
}

// Bursts is a web server: demand follows the day and varies by the minute and
// by the second; at most so many cores are busy.
func Bursts(seed uint64, cores float64) Load {
	return func(unix int64) Work {
		m := unix / minute
		into := float64(unix%minute) / minute
		demand := dice(seed, m)*(1-into) + dice(seed, m+1)*into
		busy := cores * daylight(unix) * demand * demand * (0.6 + 0.8*dice(seed^5, unix))
		return Work{Busy: min(busy, cores) + 0.02, Peak: min(1, busy*1.5+0.05)}
	}
}

// Builds is a CI runner: jobs of some minutes on all cores, more of them by
// day, each ending on one core for the linker.
func Builds(seed uint64, cores float64) Load {
	idle := Idle(seed)
	const slot = 20 * minute
	return func(unix int64) Work {
		n, into := unix/slot, unix%slot
		length := int64(3*minute + 9*minute*dice(seed^6, n))
		switch {
		case dice(seed^7, n) > daylight(unix) || into > length:
			return idle(unix)
		case into > length*8/10:
			return Work{Busy: 1.05, Peak: 1}
		}
		return Work{Busy: cores * (0.85 + 0.15*dice(seed, unix/5)), Peak: 1}
	}
}

// daylight is how busy the world is: 0.2 at night, 1 in the afternoon (UTC).
func daylight(unix int64) float64 {
	const busiest = 15 * hour
	return 0.6 + 0.4*math.Cos(2*math.Pi*float64(unix%day-busiest)/day)
}
