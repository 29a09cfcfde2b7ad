package pager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	"github.com/prometheus/alertmanager/notify"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
	"bramble/alerting/rules"
)

const (
	// watchdogIntegration names its only integration.
	watchdogIntegration = "heartbeat"
	// maxBeatAnswer bounds the part of the other side's answer that is read, in bytes.
	maxBeatAnswer = 300
)

// ErrBeat is wrapped by every reason for which no beat was sent.
var ErrBeat = errors.New("no beat")

// Audit finds the first overdue or broken part of alerting; nil means that there is none.
type Audit func(now time.Time) error

// WatchdogOptions say where beats go. All but Token and Audits are needed.
type WatchdogOptions struct {
	// URL takes a POST for each beat, with a JSON body that another collector's /api/heartbeats understands.
	URL string
	// Token goes along as `Authorization: Bearer …` where it is not empty.
	Token string
	Every time.Duration
	// Audits must all pass at the moment of a beat, beside the pager's own.
	Audits []Audit
}

// WatchdogStatus is how the beats fare.
type WatchdogStatus struct {
	Every time.Duration
	// Sent is when the last beat was accepted, Tried when one was last due; zero for never since the start.
	Sent, Tried time.Time
	// Err is why the last one was not sent, nil where it was.
	Err error
}

// watchdog is the integration at the end of the way.
type watchdog struct {
	WatchdogOptions
	pager  *Pager
	client *http.Client

	mu     sync.Mutex
	status WatchdogStatus
}

func newWatchdog(o *WatchdogOptions, p *Pager) *watchdog {
	if o == nil {
		return nil
	}
	w := &watchdog{WatchdogOptions: *o, pager: p, client: &http.Client{}}
	w.status.Every = o.Every
	return w
}

// Watchdog says how the beats fare; false where none are configured.
func (p *Pager) Watchdog() (WatchdogStatus, bool) {
	if p.watchdog == nil {
		return WatchdogStatus{}, false
	}
	p.watchdog.mu.Lock()
	defer p.watchdog.mu.Unlock()
	return p.watchdog.status, true
}

// withWatchdog returns a configuration with the watchdog's route before all others.
func (w *watchdog) withWatchdog(c *config.Config) (*config.Config, error) {
	matcher, err := amlabels.NewMatcher(amlabels.MatchEqual, rules.WatchdogLabel, rules.WatchdogValue)
	if err != nil {
		return nil, err
	}
	// A repeat that is due at the very moment of a flush would wait for the next one.
	wait, interval, repeat := model.Duration(0), model.Duration(w.Every), model.Duration(w.Every/2)
	route := &config.Route{
		Receiver: alert.Watchdog, Matchers: amcommoncfg.Matchers{matcher}, GroupBy: []model.LabelName{alert.NameLabel}, GroupByStr: []string{alert.NameLabel},
		GroupWait: &wait, GroupInterval: &interval, RepeatInterval: &repeat,
	}
	root := *c.Route
	root.Routes = append([]*config.Route{route}, root.Routes...)
	out := *c
	out.Route = &root
	out.Receivers = append([]config.Receiver{{Name: alert.Watchdog}}, out.Receivers...)
	return &out, nil
}

// integrations are the parts of the receiver.
func (w *watchdog) integrations() []notify.Integration {
	return []notify.Integration{notify.NewIntegration(w, w, watchdogIntegration, 0, alert.Watchdog)}
}

// SendResolved implements notify.ResolvedSender.
func (w *watchdog) SendResolved() bool { return false }

// Notify implements notify.Notifier: it sends a beat, if all is well.
func (w *watchdog) Notify(ctx context.Context, alerts ...*amalert.Alert) (retry bool, err error) {
	now := time.Now()
	retry, err = w.beat(ctx, alerts, now)
	w.mu.Lock()
	if was := w.status.Err; (was == nil) != (err == nil) {
		w.pager.log.Warn("watchdog", "beats", err == nil, "err", err)
	}
	w.status.Tried, w.status.Err = now, err
	if err == nil {
		w.status.Sent = now
	}
	w.mu.Unlock()
	return retry, err
}

func (w *watchdog) beat(ctx context.Context, alerts []*amalert.Alert, now time.Time) (retry bool, err error) {
	if _, journalled := receivers.PageID(ctx); !journalled {
		return false, fmt.Errorf("%w: the database takes no page", ErrBeat)
	}
	if err := w.fresh(alerts, now); err != nil {
		return false, err
	}
	for _, audit := range append([]Audit{w.pager.overdue}, w.Audits...) {
		if err := audit(now); err != nil {
			return true, fmt.Errorf("%w: %w", ErrBeat, err)
		}
	}
	return true, w.post(ctx)
}

// fresh reports whether the beat left its rule lately: an old one says nothing about now.
func (w *watchdog) fresh(alerts []*amalert.Alert, now time.Time) error {
	for _, a := range alerts {
		at, err := time.Parse(alert.NoteTime, string(a.Annotations[rules.BeatNote]))
		if err == nil && now.Sub(at) <= 2*w.Every+receivers.TryTimeout {
			return nil
		}
	}
	return fmt.Errorf("%w: what arrived left its rule more than %s ago", errStale, 2*w.Every)
}

// post sends a beat.
func (w *watchdog) post(ctx context.Context) error {
	body := fmt.Sprintf(`{"within":"%ds","message":"collector"}`, int(3*w.Every/time.Second))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader([]byte(body)))
	if err != nil {
		return fmt.Errorf("send beat: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	id, _ := receivers.PageID(ctx)
	r.Header.Set(receivers.IdempotencyHeader, id)
	if w.Token != "" {
		r.Header.Set("Authorization", "Bearer "+w.Token)
	}
	response, err := w.client.Do(r)
	if err != nil {
		return fmt.Errorf("send beat: %w", withoutURL(err))
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, maxBeatAnswer)) // only to explain the status
		return fmt.Errorf("send beat: %s: %s", response.Status, bytes.TrimSpace(text))
	}
	return nil
}

// errStale ends a page that says nothing any more.
var errStale = errors.New("stale")

// withoutURL drops the address from an error of the HTTP client: it may hold a secret.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

const (
	// handOverAfter is how long an alert may fire that nothing holds, beyond its route's interval, without a page.
	handOverAfter = 5 * time.Minute
)

// overdue is the pager's own audit: it names events that should have happened by now and have not.
func (p *Pager) overdue(now time.Time) error {
	if fed := p.inbox.fed.Load(); fed != 0 && now.UnixMilli()-fed > outbox.LateAfter.Milliseconds() {
		return fmt.Errorf("alerts have not been taken in for %s", outbox.Ago(now, fed))
	}
	return errors.Join(p.outbox.Overdue(now), p.unnotified(now), p.escalation.Overdue())
}

// unnotified finds an alert that fires, that nothing holds, and that no page was written for. Where routes have time
// intervals, an alert may rightly wait for hours.
func (p *Pager) unnotified(now time.Time) error {
	r := p.routing.Load()
	if len(r.intervals) > 0 {
		return nil
	}
	limit := now.Add(-handOverAfter - r.slowest).UnixMilli()
	var late []alert.Transition
	p.inbox.mu.Lock()
	for fp, l := range p.inbox.live {
		if len(l.firing) > 0 && !p.inbox.notified[fp] && l.last.Received < limit && l.last.FiredAt < limit && p.inbox.inhibiting(l.last) == nil {
			late = append(late, l.last)
		}
	}
	p.inbox.mu.Unlock()
	for _, t := range late {
		if !p.suppress.muted(alert.LabelSet(t.Labels)) {
			return fmt.Errorf("%s %s fires since %s, and no page was written", t.Labels[alert.NameLabel], t.Series, time.UnixMilli(t.FiredAt).UTC().Format("15:04:05 UTC"))
		}
	}
	return nil
}
