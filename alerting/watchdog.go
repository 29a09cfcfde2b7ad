package alerting

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	"github.com/prometheus/alertmanager/notify"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
)

const (
	// watchdogIntegration names its only integration.
	watchdogIntegration = "heartbeat"
	// keepBeats is how long beats stay in the journal.
	keepBeats = 24 * time.Hour
	// maxBeatAnswer bounds what is read of the other side's answer, in bytes.
	maxBeatAnswer = 300
)

// ErrBeat is what every reason wraps for which no beat was sent.
var ErrBeat = errors.New("no beat")

// Audit finds what in alerting is overdue or broken; nil means that nothing is.
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

// integrations are what the receiver is made of.
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
	if _, journalled := ctx.Value(pageIDKey{}).(string); !journalled {
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
		if err == nil && now.Sub(at) <= 2*w.Every+tryTimeout {
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
	r.Header.Set(idempotencyHeader, fmt.Sprint(ctx.Value(pageIDKey{})))
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

// recordBeat writes a beat into the journal of pages. It makes no incident, and takes the place of beats that still wait:
// nobody is helped by a queue of them.
func (j *journaled) recordBeat(ctx context.Context, c *sql.Conn, n *notification) ([]*letter, error) {
	if n.firingCount == 0 {
		return nil, nil
	}
	l, err := j.letter(n, &Incident{ID: alert.Watchdog, GroupKey: n.groupKey}, target{alert.Watchdog, &j.integrations[0]}, nil)
	if err != nil || l == nil {
		return nil, err
	}
	l.id, l.readingAt = "watchdog-"+strconv.FormatInt(n.now.UnixNano(), 36), 0
	_, err = c.ExecContext(ctx, `DELETE FROM page WHERE incident = ? AND (created_at < ? OR state = 'waiting')`, alert.Watchdog, n.now.Add(-keepBeats).UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("drop old beats: %w", err)
	}
	return []*letter{l}, l.insert(ctx, c, "waiting")
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
