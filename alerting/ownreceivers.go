package alerting

// ownReceiver is what a receiver has beyond Alertmanager's settings.
type ownReceiver struct {
	// Plain leaves pages as the rules wrote them.
	Plain bool
	// Links is false for receivers whose readers must not acknowledge; absent means true.
	Links *bool
}

func (o *ownReceiver) links() bool { return o.Links == nil || *o.Links }
