package alerting

import (
	"time"

	"github.com/prometheus/alertmanager/config"
	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"
)

// Nobody is the receiver of alerts that are recorded and page nobody: what a customer may well have done to one board.
const Nobody = "(nobody)"

// withNobody returns a configuration that routes those alerts to Nobody before the user's own routes see them. The
// user's file stays as it is.
func withNobody(user *config.Config) (*config.Config, error) {
	var matchers amcommoncfg.Matchers
	for _, m := range []struct {
		kind        amlabels.MatchType
		name, value string
	}{
		{amlabels.MatchEqual, pagesLabel, pagesDomains}, {amlabels.MatchNotEqual, customerLabel, ""}, {amlabels.MatchEqual, domainLabel, ""},
	} {
		matcher, err := amlabels.NewMatcher(m.kind, m.name, m.value)
		if err != nil {
			return nil, err
		}
		matchers = append(matchers, matcher)
	}
	wait, interval, repeat := model.Duration(0), model.Duration(10*time.Second), model.Duration(365*24*time.Hour)
	quiet := &config.Route{
		Receiver: Nobody, Matchers: matchers, GroupBy: []model.LabelName{alertLabel, boardLabel},
		GroupByStr: []string{alertLabel, boardLabel}, GroupWait: &wait, GroupInterval: &interval, RepeatInterval: &repeat,
	}
	root := *user.Route
	root.Routes = append([]*config.Route{quiet}, user.Route.Routes...)
	c := *user
	c.Route = &root
	c.Receivers = append([]config.Receiver{{Name: Nobody}}, user.Receivers...)
	return &c, nil
}
