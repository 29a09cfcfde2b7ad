package alerting

import (
	"time"

	"github.com/prometheus/alertmanager/config"
	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"
)

// withNobody returns a configuration that routes those alerts to Nobody before the user's own routes see them. The
// user's file stays as it is.
func withNobody(user *config.Config) (*config.Config, error) {
	each := []string{alertLabel, boardLabel, domainLabel} // boards and domains: each is an incident
	for _, k := range domainKinds {
		each = append(each, k.name)
	}
	shadow, err := quietRoute(each, quietMatcher{amlabels.MatchEqual, shadowLabel, shadowTrue})
	if err != nil {
		return nil, err
	}
	customers, err := quietRoute([]string{alertLabel, boardLabel}, quietMatcher{amlabels.MatchEqual, pagesLabel, pagesDomains},
		quietMatcher{amlabels.MatchNotEqual, customerLabel, ""}, quietMatcher{amlabels.MatchEqual, domainLabel, ""})
	if err != nil {
		return nil, err
	}
	root := *user.Route
	root.Routes = append([]*config.Route{shadow, customers}, user.Route.Routes...)
	c := *user
	c.Route = &root
	c.Receivers = append([]config.Receiver{{Name: Nobody}}, user.Receivers...)
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
		Receiver: Nobody, Matchers: matchers, GroupByStr: groupBy, GroupWait: &wait, GroupInterval: &interval, RepeatInterval: &repeat,
	}
	for _, name := range groupBy {
		route.GroupBy = append(route.GroupBy, model.LabelName(name))
	}
	return route, nil
}
