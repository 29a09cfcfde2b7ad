package alerting

import (
	"time"

	"github.com/prometheus/alertmanager/config"
	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
)

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
