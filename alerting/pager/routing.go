package pager

import (
	"fmt"
	"time"

	"github.com/prometheus/alertmanager/config"
	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/notify"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/common/model"

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
	own, err := receivers.ReadOwn(p.ownFile)
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
		if to := rt.RouteOpts.Receiver; alert.KindOf(to) != alert.ToWatchdog && (len(r.set.Integrations[to]) > 0 || r.oncall.PolicyOf(to) != nil) {
			silent = false
		}
	})
	return silent
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

// GroupKeys are the keys of the groups that the routes lead an alert to, as the dispatcher writes them.
func (r *routing) GroupKeys(labels map[string]string) (keys []string) {
	set := alert.LabelSet(labels)
	for _, rt := range r.tree.Match(set) {
		group := model.LabelSet{}
		for n, v := range set {
			if _, by := rt.RouteOpts.GroupBy[n]; by || rt.RouteOpts.GroupByAll {
				group[n] = v
			}
		}
		keys = append(keys, fmt.Sprintf("%s:%s", rt.Key(), group))
	}
	return keys
}

// Of are the integrations of a receiver.
func (r *routing) Of(receiver string) []notify.Integration { return r.set.Of(receiver) }

// Only returns the integration of a receiver that has one, nil for any other.
func (r *routing) Only(receiver string) *notify.Integration { return r.set.Only(receiver) }

// Find returns an integration, nil where there is none such.
func (r *routing) Find(receiver, integration string, idx int) *notify.Integration {
	return r.set.Find(receiver, integration, idx)
}
