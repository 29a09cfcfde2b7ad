package pager

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/domain"
	"bramble/alerting/fault"
	"bramble/alerting/outbox"
)

// maxHold bounds how long a resolve waits for its alert's page: groups that wait longer before their first page
// are rare.
const maxHold = 10 * time.Minute

// inbox is the way of transitions into Alertmanager's store, and the facts about the alerts that are in it.
type inbox struct {
	wake chan struct{}

	mu    sync.Mutex
	queue []delivery
	live  map[model.Fingerprint]*liveAlert
	// notified holds the alerts that stand as firing in an open incident: their first page is handed over.
	notified map[model.Fingerprint]bool
	// handled is the FiredAt of the last episode of an alert whose resolve is handed over.
	handled map[string]int64
	held    int
	wrote   int // rows in alert_waiting and alert_held
	// earlier are the transitions that an earlier pager was given to keep; see Held.
	earlier []alert.Transition
	// represent are the firing alerts that may represent others.
	represent *domain.Representatives
	// fed is when the feed was last seen at work, in Unix milliseconds; 0 before Run.
	fed atomic.Int64
	// left are the alerts that still fired when a maintenance or a silence ended.
	left stillFirings
	// graph links to the graph of a rule, by its ID; nil links to none.
	graph func(rule string) string
	// lifted are alerts that are over, which may have stood for others, or have had one stand for them.
	lifted []alert.Transition

	faults *fault.Guard
}

// delivery is one call of Deliver or Resume.
type delivery struct {
	transitions []alert.Transition
	held        []alert.Transition // fire, and are not to be paged yet
	resume      bool
}

// liveAlert is an alert that Alertmanager holds as firing. Two rules may share one, where name and labels agree.
type liveAlert struct {
	firing  map[string]alert.Transition // by Transition.Key
	last    alert.Transition            // the last that fired
	resolve *alert.Transition           // held back until the alert's page is handed over
	until   time.Time
	quiet   bool // it ended while a domain's alert stood for it: no page is to come
	way     outbox.Way
	// suppressed says that something has kept it from paging, and that its condition was not seen to hold since.
	suppressed bool
}

func newInbox(pagesFor func(by, t *alert.Transition) bool, faults *fault.Guard) *inbox {
	return &inbox{
		faults: faults,
		wake:   make(chan struct{}, 1), live: map[model.Fingerprint]*liveAlert{}, notified: map[model.Fingerprint]bool{}, handled: map[string]int64{},
		represent: domain.NewRepresentatives(pagesFor), left: newStillFirings(),
	}
}

// Deliver hands over transitions that the caller has on disk. It never blocks: routing follows. Transitions that were
// handed over before, as a replay of the caller's journal brings them, page nobody twice.
func (p *Pager) Deliver(ts []alert.Transition) {
	if len(ts) > 0 {
		p.inbox.put(delivery{transitions: ts})
	}
}

// Resume gives the pager all alerts that fire, once after a start: Engine.Firing, but for those that are held back and will be
// delivered, or not, later. Call it after Deliver was given the journal's transitions, and before Run. An alert that an earlier pager
// knew as firing and is in neither is resolved.
func (p *Pager) Resume(firing, held []alert.Transition) {
	p.inbox.mu.Lock()
	held = append(slices.Clone(held), p.inbox.left.firing()...)
	p.inbox.mu.Unlock()
	p.inbox.put(delivery{transitions: firing, held: held, resume: true})
}

func (b *inbox) put(d delivery) {
	b.mu.Lock()
	b.queue = append(b.queue, d)
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// feed takes in deliveries until ctx ends, and looks once a second at the resolves that are held back.
func (p *Pager) feed(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.inbox.wake:
		case now := <-tick.C:
			p.takeIn()
			p.faults.Run("look at the alerts on their way", func() {
				p.am.feedMu.Lock()
				defer p.am.feedMu.Unlock()
				p.am.lookAtOrder()
			})
			p.faults.Run("follow maintenances and silences", func() { p.mutes.follow(now) })
		}
		p.takeIn()
		p.inbox.fed.Store(time.Now().UnixMilli())
	}
}

// takeIn puts all that waits into Alertmanager's store: firing before resolved, so that a group is never seen as
// resolved while another of its alerts is on the way.
//
// A fault in one of its steps costs that step of one alert. An alert whose facts cannot be noted is stored without them: it
// pages, and nothing represents it. An alert that cannot be stored stays among the live ones that have no page yet, so
// Barrier writes it down and the next start takes it in again. The facts themselves are rebuilt at each start, from the open
// incidents, the engine's firing alerts and the caller's journal.
func (p *Pager) takeIn() {
	p.am.feedMu.Lock()
	defer p.am.feedMu.Unlock()
	firing, grown, lifted := p.inbox.takeQueue()
	resolved := p.inbox.resolves(p.suppress.muted)
	p.am.put(latest(firing))
	p.suppress.note(firing)
	p.am.put(resolved)
	p.lift(lifted, resolved)
	p.faults.Run("bring incidents up to date", func() {
		if err := p.escalation.Update(grown); err != nil {
			p.log.Error("bring incidents up to date", "err", err)
		}
	})
}

// takeQueue accepts the transitions of all deliveries. It returns the alerts that fire, the domains' transitions that may have
// grown, and the alerts that are over.
func (b *inbox) takeQueue() (firing []*amalert.Alert, grown, lifted []alert.Transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queue
	b.queue = nil
	for _, d := range queue {
		for _, t := range d.transitions {
			b.acceptSafely(t, &firing)
			if alert.IsDomainRule(t.Rule) && t.From.Active() {
				grown = append(grown, t)
			}
		}
		if d.resume {
			b.faults.Run("take in the alerts that fire", func() { b.resume(append(slices.Clone(d.transitions), d.held...)) })
		}
	}
	lifted, b.lifted = b.lifted, nil
	return firing, grown, lifted
}

// resolves returns the resolves that need not wait any longer.
func (b *inbox) resolves(muted func(model.LabelSet) bool) []*amalert.Alert {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.release(time.Now(), muted)
}

// acceptSafely takes one transition. After a fault it takes it once more without asking which alert represents it: a page too
// many is better than none.
func (b *inbox) acceptSafely(t alert.Transition, firing *[]*amalert.Alert) {
	n := len(*firing)
	if b.faults.Run("take in alert "+t.Rule+" "+t.Series, func() { b.accept(t, firing) }) {
		return
	}
	*firing = (*firing)[:n]
	b.faults.Run("take in alert "+t.Rule+" "+t.Series+" once more", func() {
		if done, ok := b.handled[t.Key()]; ok && t.FiredAt <= done {
			return
		}
		if t.State.Active() {
			b.fires(t)
			*firing = append(*firing, amAlert(t))
		} else if t.State == alert.Inactive && t.From != alert.Pending {
			b.endsAs(t, false)
		}
	})
}

// lift ends the alerts that represented others, once the dispatcher knows which of those are over: an alert that it still sees
// as firing would page in between.
func (p *Pager) lift(lifted []alert.Transition, resolved []*amalert.Alert) {
	if len(lifted) > 0 {
		p.am.inOrder(resolved)
	}
	resolved, over := p.inbox.lift(lifted, p.suppress.muted)
	p.am.put(resolved)
	p.mutes.forget(over)
}

// lift forgets that alerts which are over represented others. It returns the resolves that this frees, and the alerts of
// maintenances and silences that have no member any more.
func (b *inbox) lift(lifted []alert.Transition, muted func(model.LabelSet) bool) (resolved []*amalert.Alert, over []alert.Transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range lifted {
		b.faults.Run("end alert "+t.Rule+" "+t.Series, func() {
			b.left.end(t.Key())
			b.represent.Note(t)
		})
	}
	over = b.left.ended(time.Now())
	for _, t := range over {
		b.acceptSafely(t, new([]*amalert.Alert)) // none fires
	}
	if len(over) > 0 {
		resolved = b.release(time.Now(), muted)
	}
	return resolved, over
}

// accept takes one transition.
func (b *inbox) accept(t alert.Transition, firing *[]*amalert.Alert) {
	if t.State.Active() {
		b.represent.Note(t) // also of a domain that is handled: in a replay its boards' alerts come with it
		b.lifted = slices.DeleteFunc(b.lifted, func(o alert.Transition) bool { return o.Rule == t.Rule && o.Series == t.Series })
	} else {
		b.lifted = append(b.lifted, t)
	}
	if done, ok := b.handled[t.Key()]; ok && t.FiredAt <= done {
		return
	}
	if t.State.Active() {
		b.fires(t)
		*firing = append(*firing, b.linked(t))
		return
	}
	if t.State == alert.Inactive && t.From != alert.Pending {
		b.ends(t)
	}
}

func (b *inbox) fires(t alert.Transition) {
	l := b.alert(t)
	if len(l.firing) == 0 {
		l.way = outbox.Way{Sampled: t.FiredAt, Arrived: t.Arrived, Decided: t.Received, Journalled: t.Journalled, Passed: time.Now().UnixMilli()}
	}
	l.quiet = false
	l.firing[t.Key()], l.last = t, t
	b.unhold(l)
}

func (b *inbox) ends(t alert.Transition) { b.endsAs(t, b.inhibiting(t) != nil) }

// endsAs notes the end of an alert, quiet where another one represented it.
func (b *inbox) endsAs(t alert.Transition, quiet bool) {
	l := b.alert(t)
	l.quiet = quiet
	delete(l.firing, t.Key())
	if len(l.firing) == 0 {
		b.hold(l, t)
	}
}

// alert returns the entry of a transition's alert, made where there is none.
func (b *inbox) alert(t alert.Transition) *liveAlert {
	fp := alert.LabelSet(t.Labels).Fingerprint()
	l := b.live[fp]
	if l == nil {
		l = &liveAlert{firing: map[string]alert.Transition{}, last: t}
		b.live[fp] = l
	}
	return l
}

func (b *inbox) hold(l *liveAlert, t alert.Transition) {
	if l.resolve == nil {
		b.held++
	}
	l.resolve, l.until = &t, time.Now().Add(maxHold)
}

func (b *inbox) unhold(l *liveAlert) {
	if l.resolve != nil {
		b.held--
		l.resolve = nil
	}
}

// release returns the resolves that need not wait any longer: the alert's page is handed over, nobody is to be paged,
// or the time is up.
func (b *inbox) release(now time.Time, muted func(model.LabelSet) bool) (out []*amalert.Alert) {
	if b.held == 0 {
		return nil
	}
	for fp, l := range b.live {
		if l.resolve == nil {
			continue
		}
		if b.notified[fp] || l.quiet || now.After(l.until) || b.faults.Ask("find silences of an alert", func() bool { return muted(alert.LabelSet(l.resolve.Labels)) }) {
			out = append(out, b.linked(*l.resolve))
			b.unhold(l)
		}
	}
	return out
}

// resume holds a resolve for all that is live and does not fire any more.
func (b *inbox) resume(firing []alert.Transition) {
	fires, began := map[model.Fingerprint]bool{}, map[string]int64{}
	for _, t := range firing {
		fires[alert.LabelSet(t.Labels).Fingerprint()] = true
		began[t.Key()] = t.FiredAt
	}
	b.left.keep(began)
	for fp, l := range b.live {
		if fires[fp] || l.resolve != nil || len(l.firing) == 0 {
			continue
		}
		clear(l.firing)
		t := l.last
		b.represent.Note(alert.Transition{Rule: t.Rule, Series: t.Series, Labels: t.Labels})
		t.From, t.State, t.At = t.State, alert.Inactive, max(time.Now().UnixMilli(), t.At+1)
		b.hold(l, t)
	}
}

// amAlert is the transition as Alertmanager sees it. A firing one has no end: no pause of this process can make it look
// resolved.
func amAlert(t alert.Transition) *amalert.Alert {
	a := &amalert.Alert{
		Alert: model.Alert{
			Labels: alert.LabelSet(t.Labels), Annotations: alert.LabelSet(t.Annotations), StartsAt: time.UnixMilli(max(t.FiredAt, 1)),
		},
		UpdatedAt: time.Now(),
	}
	if !t.State.Active() {
		a.EndsAt = time.UnixMilli(t.At)
	}
	return a
}

// linked is the transition as Alertmanager sees it, with the link to its rule's graph.
func (b *inbox) linked(t alert.Transition) *amalert.Alert {
	a := amAlert(t)
	if b.graph != nil {
		b.faults.Run("link to the graph of rule "+t.Rule, func() { a.GeneratorURL = b.graph(t.Rule) })
	}
	return a
}

// graphOf links to the graph of a rule's expression in the explorer; "" where the expression is not known.
func (p *Pager) graphOf(rule string) string {
	expr := p.expression(rule)
	if expr == "" {
		return ""
	}
	return p.parts.Link("vmui/#/?g0.range_input=1h&g0.expr=" + strings.ReplaceAll(url.QueryEscape(expr), "+", "%20"))
}

// wayOf is the way of the newest reading that made one of these alerts fire, nil where none is the engine's.
func (b *inbox) wayOf(alerts []*amalert.Alert) (newest *outbox.Way) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range alerts {
		if l := b.live[a.Fingerprint()]; l != nil && len(l.firing) > 0 && (newest == nil || l.way.Sampled > newest.Sampled) {
			way := l.way
			newest = &way
		}
	}
	return newest
}

// originOf names the engine's alert behind an alert of Alertmanager's, "" for one that came by the API, and the boards
// that it stands for.
func (b *inbox) originOf(fp model.Fingerprint) (rule, series string, boards []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.live[fp]; l != nil {
		return l.last.Rule, l.last.Series, l.last.Boards
	}
	return "", "", nil
}

// paged reports whether an alert stands as firing in an open incident.
func (b *inbox) paged(fp model.Fingerprint) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.notified[fp]
}
