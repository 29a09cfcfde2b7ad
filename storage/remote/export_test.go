package remote

import "time"

// OpenKeeping opens remote stores that keep rows for less than MinKeep after a server took them, where its interval of
// flushes allows it.
func OpenKeeping(keep time.Duration) func(Options) (*Store, error) {
	return func(o Options) (*Store, error) {
		o, err := o.Check()
		if err != nil {
			return nil, err
		}
		o.Keep = keep
		return open(o)
	}
}
