package pager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/api/v2/models"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/maintenance"
)

// maxSilence bounds the body of a silence, in bytes.
const maxSilence = 1 << 20

// guard refuses a silence that covers much of the fleet and does not say so. All else passes untouched, bodies
// that Alertmanager will refuse included.
func (m *mutes) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || strings.TrimSuffix(r.URL.Path, "/") != "/api/v2/silences" {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSilence))
		if err != nil {
			refuseSilence(w, "read silence: "+err.Error())
			return
		}
		if err := m.mayBeSilenced(body); err != nil {
			refuseSilence(w, err.Error())
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// refuseSilence answers as Alertmanager does: its clients show the text.
func refuseSilence(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(why) // the client has gone
}

func (m *mutes) mayBeSilenced(body []byte) error {
	comment, ms := decodeSilence(body)
	if len(ms) == 0 {
		return nil
	}
	c := m.coverOf(ms)
	number := 0
	if found := confirmation.FindStringSubmatch(comment); found != nil {
		number, _ = strconv.Atoi(found[1]) // at most seven digits
	}
	var much *maintenance.ConfirmError
	if err := c.Confirm(number); errors.As(err, &much) {
		return fmt.Errorf("this silence covers %d of %d boards, more than 5 %% of the fleet, and nobody is paged for them: "+
			"to confirm that, write \"confirm %d\" into its comment. For work on a rack, `collector maintenance start` tells afterwards what did not come back",
			much.Boards, much.Of, much.Boards)
	}
	return nil
}

// coverOf is the cover of a silence that holds where one of the sets matches.
func (m *mutes) coverOf(sets ...amlabels.Matchers) maintenance.Coverage {
	var names []string
	if m.boardAlerts != nil {
		names = m.boardAlerts()
	}
	fleet := m.maintenances.Fleet()
	all := maintenance.Coverage{Of: len(fleet)}
	for _, ms := range sets {
		all.Boards = append(all.Boards, maintenance.Cover(ms, fleet, names).Boards...)
	}
	slices.Sort(all.Boards)
	all.Boards = slices.Compact(all.Boards)
	return all
}

// decodeSilence reads the fields of a silence that matter here. Fields that it cannot read are left to Alertmanager, which refuses them.
func decodeSilence(body []byte) (comment string, ms amlabels.Matchers) {
	var s models.PostableSilence
	if err := json.Unmarshal(body, &s); err != nil {
		return "", nil
	}
	if s.Comment != nil {
		comment = *s.Comment
	}
	return comment, readMatchers(s.Matchers)
}

func readMatchers(list models.Matchers) (ms amlabels.Matchers) {
	for _, m := range list {
		if m == nil || m.Name == nil || m.Value == nil {
			return nil
		}
		equal, regex := m.IsEqual == nil || *m.IsEqual, m.IsRegex != nil && *m.IsRegex
		kind := map[[2]bool]amlabels.MatchType{
			{true, false}: amlabels.MatchEqual, {false, false}: amlabels.MatchNotEqual, {true, true}: amlabels.MatchRegexp, {false, true}: amlabels.MatchNotRegexp,
		}[[2]bool{equal, regex}]
		one, err := amlabels.NewMatcher(kind, *m.Name, *m.Value)
		if err != nil {
			return nil
		}
		ms = append(ms, one)
	}
	return ms
}

// confirmation stands in the comment of a silence that covers more than 5 % of the fleet. amtool has no other field
// for it, and a number cannot be confirmed without having been read.
var confirmation = regexp.MustCompile(`(?i)\bconfirm (\d{1,7})\b`)

// watchedSilence is a silence with its matchers, of which one set must match.
type watchedSilence struct {
	*silencepb.Silence
	sets []amlabels.Matchers
}

func (w watchedSilence) matches(labels model.LabelSet) bool {
	return slices.ContainsFunc(w.sets, func(ms amlabels.Matchers) bool { return ms.Matches(labels) })
}

var matchTypes = map[silencepb.Matcher_Type]amlabels.MatchType{
	silencepb.Matcher_EQUAL: amlabels.MatchEqual, silencepb.Matcher_NOT_EQUAL: amlabels.MatchNotEqual,
	silencepb.Matcher_REGEXP: amlabels.MatchRegexp, silencepb.Matcher_NOT_REGEXP: amlabels.MatchNotRegexp,
}

func watchSilence(s *silencepb.Silence) (watchedSilence, error) {
	w := watchedSilence{Silence: s}
	sets := s.MatcherSets
	if len(sets) == 0 {
		sets = []*silencepb.MatcherSet{{Matchers: s.Matchers}}
	}
	for _, set := range sets {
		var ms amlabels.Matchers
		for _, m := range set.Matchers {
			one, err := amlabels.NewMatcher(matchTypes[m.Type], m.Name, m.Pattern)
			if err != nil {
				return w, fmt.Errorf("silence %s: %w", s.Id, err)
			}
			ms = append(ms, one)
		}
		w.sets = append(w.sets, ms)
	}
	return w, nil
}

func quoted(comment string) string {
	if comment == "" {
		return ""
	}
	return ", “" + comment + "”"
}

// silencesOff is the source for Alertmanager's silences.
func (m *mutes) silencesOff(time.Time) (out []alert.Off) {
	active, _, err := m.am.silences.Query(context.Background(), silence.QState(silence.SilenceStateActive))
	if err != nil {
		m.log.Error("list silences", "err", err)
		return nil
	}
	for _, s := range active {
		w, err := watchSilence(s)
		if err != nil {
			continue // Alertmanager refuses such a one
		}
		o := alert.Off{
			Kind: alert.OffSilence, ID: s.Id, By: s.CreatedBy, Since: s.StartsAt.AsTime().UnixMilli(), Until: s.EndsAt.AsTime().UnixMilli(),
			Why: "silenced" + quoted(s.Comment), Boards: m.coverOf(w.sets...).Boards, Rules: m.rulesOf(w.sets),
		}
		var texts []string
		for _, ms := range w.sets {
			texts = append(texts, ms.String())
		}
		o.What = describe(&o, strings.Join(texts, " or "))
		out = append(out, o)
	}
	return out
}

// rulesOf names the rules that the matchers pick, none where they do not ask for an alert's name.
func (m *mutes) rulesOf(sets []amlabels.Matchers) (out []string) {
	picked := map[string]bool{}
	for _, ms := range sets {
		asked := false
		for _, x := range ms {
			if x.Name != alert.NameLabel {
				continue
			}
			asked = true
			if x.Type == amlabels.MatchEqual {
				picked[x.Value] = true
			}
			if m.boardAlerts != nil {
				for _, name := range m.boardAlerts() {
					if x.Matches(name) {
						picked[name] = true
					}
				}
			}
		}
		if !asked {
			return nil
		}
	}
	return slices.Sorted(maps.Keys(picked))
}

// describe names the suppressed alerts by the matchers of the suppression.
func describe(o *alert.Off, matchers string) string {
	boards := fmt.Sprintf("%d boards", len(o.Boards))
	switch {
	case len(o.Boards) == 1:
		boards = o.Boards[0]
	case len(o.Boards) == 0 && len(o.Rules) > 0:
		return alert.Enumerate(o.Rules) + " " + matchers
	case len(o.Boards) == 0:
		return "alerts with " + matchers
	}
	if len(o.Rules) > 0 {
		return fmt.Sprintf("%s on %s, %s", alert.Names(setOf(o.Rules), 4), boards, matchers)
	}
	return boards + ", " + matchers
}

func setOf(names []string) map[string]bool {
	out := map[string]bool{}
	for _, n := range names {
		out[n] = true
	}
	return out
}

// maintenancesOff is the source for maintenances that run, or whose boards have not reported yet.
func (m *mutes) maintenancesOff(now time.Time) (out []alert.Off) {
	fleet := m.maintenances.Fleet()
	for _, x := range m.maintenances.Current() {
		if now.UnixMilli() < x.StartsAt {
			continue
		}
		o := alert.Off{
			Kind: alert.OffMaintenance, ID: fmt.Sprint(x.Number), By: x.By, Since: x.StartsAt, Until: x.EndsAt,
			Why: fmt.Sprintf("maintenance %d%s", x.Number, quoted(x.Comment)), Boards: maintenance.Cover(x.Parsed, fleet, nil).Boards,
			Rules: m.rulesOf([]amlabels.Matchers{x.Parsed}),
		}
		if x.EndsAt <= now.UnixMilli() {
			o.Until, o.Why = x.ReturnBy, fmt.Sprintf("maintenance %d is over, and boards have a while to report", x.Number)
		}
		o.What = describe(&o, strings.Join(x.Matchers, ", "))
		out = append(out, o)
	}
	return out
}
