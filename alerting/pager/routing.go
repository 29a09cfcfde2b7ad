package pager

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/config"
	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/notify"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/common/version"

	"bramble/alerting/alert"
	"bramble/alerting/namedfile"
	"bramble/alerting/oncall"
	"bramble/alerting/receivers"
)

// builtinConfig is in force where there is no alertmanager.yml: incidents by rule and rack are recorded and nobody is
// paged.
const builtinConfig = `
route:
  receiver: record
  group_by: [alertname, rack]
  group_wait: 0s
  group_interval: 5s
  repeat_interval: 4h
receivers:
  - name: record
`

// routing is one alertmanager.yml, parsed and built. It is immutable.
type routing struct {
	set        *receivers.Set
	tree       *dispatch.Route
	intervals  map[string][]timeinterval.TimeInterval
	slowest    time.Duration            // the longest group_interval
	intervalOf map[string]time.Duration // by receiver, the shortest group_interval of the user's routes to it
	oncall     *oncall.Config
	oncallText []byte
}

// buildRouting parses an alertmanager.yml, and the receivers.yml. Relative paths in it start at dir.
func (p *Pager) buildRouting(text []byte) (*routing, error) {
	if len(text) == 0 {
		text = []byte(builtinConfig)
	}
	conf, err := config.Load(string(text))
	if err != nil {
		return nil, fmt.Errorf("alertmanager.yml: %w", err)
	}
	namedfile.Each(conf, namedfile.In(p.dir))
	own, err := receivers.ReadOwn(p.receivers)
	if err != nil {
		return nil, err
	}
	user := *conf
	if conf, err = withTests(conf, func(name string) bool { return receivers.Sends(&user, name) || own.Sends(name) }); err != nil {
		return nil, fmt.Errorf("alertmanager.yml: %w", err)
	}
	if conf, err = withNobody(conf); err != nil {
		return nil, fmt.Errorf("alertmanager.yml: %w", err)
	}
	if p.watchdog != nil {
		if conf, err = p.watchdog.withWatchdog(conf); err != nil {
			return nil, fmt.Errorf("alertmanager.yml: %w", err)
		}
	}
	r := &routing{intervalOf: intervals(user.Route), intervals: map[string][]timeinterval.TimeInterval{}}
	if r.set, err = receivers.Build(conf, own, p.parts); err != nil {
		return nil, err
	}
	r.tree = dispatch.NewRoute(conf.Route, nil)
	r.tree.Walk(func(rt *dispatch.Route) {
		r.slowest = max(r.slowest, rt.RouteOpts.GroupInterval, rt.RouteOpts.GroupWait)
	})
	if p.watchdog != nil {
		r.set.Integrations[alert.Watchdog] = p.watchdog.integrations()
	}
	for _, ti := range conf.MuteTimeIntervals {
		r.intervals[ti.Name] = ti.TimeIntervals
	}
	for _, ti := range conf.TimeIntervals {
		r.intervals[ti.Name] = ti.TimeIntervals
	}
	return r, nil
}

// intervals are the shortest group_intervals of the routes to each receiver.
func intervals(routes *config.Route) map[string]time.Duration {
	out := map[string]time.Duration{}
	dispatch.NewRoute(routes, nil).Walk(func(rt *dispatch.Route) {
		if d, ok := out[rt.RouteOpts.Receiver]; !ok || rt.RouteOpts.GroupInterval < d {
			out[rt.RouteOpts.Receiver] = rt.RouteOpts.GroupInterval
		}
	})
	return out
}

// silent reports whether no route leads to anything that sends.
func (r *routing) silent() bool {
	silent := true
	r.tree.Walk(func(rt *dispatch.Route) {
		if to := rt.RouteOpts.Receiver; to != alert.Watchdog && (len(r.set.Integrations[to]) > 0 || r.oncall.PolicyOf(to) != nil) {
			silent = false
		}
	})
	return silent
}

// dispatching is the part of the pager that a reload replaces.
type dispatching struct {
	inhibitor  *inhibit.Inhibitor
	dispatcher *dispatch.Dispatcher
	tree       *dispatch.Route
	done       chan struct{}
}

// start puts a routing to work: first inhibition knows the alerts, then they are dispatched.
func (p *Pager) start(r *routing) *dispatching {
	d := &dispatching{inhibitor: inhibit.NewInhibitor(p.alerts, r.set.Config.InhibitRules, p.amLog, p.recorder), tree: r.tree, done: make(chan struct{})}
	stages := map[string][]notify.Integration{}
	for name, integrations := range r.set.Integrations {
		j := &recorder{pager: p, receiver: name, integrations: integrations}
		stages[name] = []notify.Integration{notify.NewIntegration(j, j, journalName, 0, name)}
	}
	pipeline := p.pipelines.New(stages, func() time.Duration { return 0 }, d.inhibitor, p.silencer,
		timeinterval.NewIntervener(r.intervals), p.groupMarker, p.notified, nil)
	p.api.update(r.set.Config, func(ctx context.Context, labels model.LabelSet) {
		d.inhibitor.Mutes(ctx, labels)
		p.silencer.Mutes(ctx, labels)
		p.markInhibited(ctx, labels)
	})
	stage := append(p.holdStages(), pipeline)
	d.dispatcher = dispatch.NewDispatcher(p.alerts, r.tree, stage, p.groupMarker, notifyTimeout, maintenanceInterval, nil,
		p.amLog, p.recorder, p.dispatchMetrics, r.set.Templates)
	inhibitorDone := make(chan struct{})
	go func() { defer close(inhibitorDone); d.inhibitor.Run() }()
	d.inhibitor.WaitForLoading()
	go func() { defer close(d.done); d.dispatcher.Run(p.pagesFrom); <-inhibitorDone }()
	d.dispatcher.WaitForLoading()
	return d
}

// holdStages keep alerts from paging that something else represents. The alert that a maintenance or a silence left represents its
// alerts before they are let go, so it is looked at after them: the other way round an alert could slip through between.
func (p *Pager) holdStages() notify.MultiStage {
	return notify.MultiStage{releaseStage{p}, muteStage{p}, domainInhibition{p}}
}

// stop ends it and waits.
func (d *dispatching) stop() {
	d.inhibitor.Stop()
	d.dispatcher.Stop()
	<-d.done
}

// notifyTimeout is how long the pipeline may take: it only writes to the database.
func notifyTimeout(d time.Duration) time.Duration { return max(d, notify.MinTimeout) }

// groups serves the API.
func (p *Pager) groups(ctx context.Context, routes func(*dispatch.Route) bool, alerts func(*amalert.Alert, time.Time) bool) (dispatch.AlertGroups, map[model.Fingerprint][]string, error) {
	d := p.dispatch.Load()
	if d == nil {
		return nil, nil, errClosed
	}
	return d.dispatcher.Groups(ctx, routes, alerts)
}

// Silenced reports whether somebody works where an alert is: a silence or a maintenance holds it, or it still fired when one ended.
func (p *Pager) Silenced(t *alert.Transition) bool {
	if labels := alert.LabelSet(t.Labels); p.silencer.Mutes(context.Background(), labels) || p.mutes.holds(labels, time.Now()) {
		return true
	}
	p.inbox.mu.Lock() // after the others, as in holdStages
	defer p.inbox.mu.Unlock()
	return p.inbox.left.of(t) != nil
}

// muted reports whether a silence or an inhibition keeps an alert from paging.
func (p *Pager) muted(labels model.LabelSet) bool {
	if p.silencer.Mutes(context.Background(), labels) || p.mutes.holds(labels, time.Now()) {
		return true
	}
	d := p.dispatch.Load()
	return d != nil && d.inhibitor.Mutes(context.Background(), labels)
}

// withNobody returns a configuration that routes those alerts to Nobody before the user's own routes see them. The
// user's file stays as it is.
func withNobody(user *config.Config) (*config.Config, error) {
	each := []string{alert.NameLabel, alert.BoardLabel, alert.DomainLabel} // boards and domains: each is an incident
	for _, k := range alert.DomainKinds {
		each = append(each, k.Name)
	}
	shadow, err := quietRoute(each, quietMatcher{amlabels.MatchEqual, alert.ShadowLabel, alert.ShadowTrue})
	if err != nil {
		return nil, err
	}
	customers, err := quietRoute([]string{alert.NameLabel, alert.BoardLabel}, quietMatcher{amlabels.MatchEqual, alert.PagesLabel, alert.PagesDomains},
		quietMatcher{amlabels.MatchNotEqual, alert.CustomerLabel, ""}, quietMatcher{amlabels.MatchEqual, alert.DomainLabel, ""})
	if err != nil {
		return nil, err
	}
	root := *user.Route
	root.Routes = append([]*config.Route{shadow, customers}, user.Route.Routes...)
	c := *user
	c.Route = &root
	c.Receivers = append([]config.Receiver{{Name: alert.Nobody}}, user.Receivers...)
	return &c, nil
}

type quietMatcher struct {
	kind        amlabels.MatchType
	name, value string
}

// quietRoute leads to Nobody.
func quietRoute(groupBy []string, ms ...quietMatcher) (*config.Route, error) {
	var matchers amcommoncfg.Matchers
	for _, m := range ms {
		matcher, err := amlabels.NewMatcher(m.kind, m.name, m.value)
		if err != nil {
			return nil, err
		}
		matchers = append(matchers, matcher)
	}
	wait, interval, repeat := model.Duration(0), model.Duration(10*time.Second), model.Duration(365*24*time.Hour)
	route := &config.Route{
		Receiver: alert.Nobody, Matchers: matchers, GroupByStr: groupBy, GroupWait: &wait, GroupInterval: &interval, RepeatInterval: &repeat,
	}
	for _, name := range groupBy {
		route.GroupBy = append(route.GroupBy, model.LabelName(name))
	}
	return route, nil
}

// alertAPI is Alertmanager's HTTP API. It is made for the first request: the description of itself that it loads takes an
// eighth of a start's time, and 5 MB of memory for good. A configuration comes before the first request.
type alertAPI struct {
	options api.Options

	mu      sync.Mutex
	api     *api.API // nil before the first request
	handler http.Handler
	config  *config.Config
	status  func(context.Context, model.LabelSet)
}

// update puts a configuration in force, and a function that marks alerts of which the status is asked.
func (a *alertAPI) update(c *config.Config, status func(context.Context, model.LabelSet)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.config, a.status = c, status
	if a.api != nil {
		a.api.Update(c, status)
	}
}

func (a *alertAPI) open() (http.Handler, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.api != nil {
		return a.handler, nil
	}
	nameAlertmanager()
	made, err := api.New(a.options)
	if err != nil {
		return nil, err
	}
	made.Update(a.config, a.status)
	a.api, a.handler = made, made.Register(route.New(), "/")
	return a.handler, nil
}

func (a *alertAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, err := a.open()
	if err != nil {
		a.options.Logger.Error("open alert API", "err", err)
		http.Error(w, "the alert API cannot be opened: the collector's log says why", http.StatusInternalServerError)
		return
	}
	h.ServeHTTP(w, r)
}

// nameAlertmanager sets the version that the API states, and that amtool
// compares with its own, to that of the Alertmanager whose packages are linked.
// The variable is the process's.
var nameAlertmanager = sync.OnceFunc(func() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/prometheus/alertmanager" {
			version.Version = strings.TrimPrefix(m.Version, "v")
		}
	}
})
