package alerting

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/alertmanager/api/v2/models"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"

	"bramble/alerting/maintenance"
)

// maxSilence bounds the body of a silence, in bytes.
const maxSilence = 1 << 20

// guardSilences refuses a silence that covers much of the fleet and does not say so. All else passes untouched, bodies
// that Alertmanager will refuse included.
func (p *Pager) guardSilences(next http.Handler) http.Handler {
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
		if err := p.mayBeSilenced(body); err != nil {
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

func (p *Pager) mayBeSilenced(body []byte) error {
	comment, ms := decodeSilence(body)
	if len(ms) == 0 {
		return nil
	}
	c := p.coverOf(ms)
	number := 0
	if m := confirmation.FindStringSubmatch(comment); m != nil {
		number, _ = strconv.Atoi(m[1]) // at most seven digits
	}
	var much *maintenance.ConfirmError
	if err := c.Confirm(number); errors.As(err, &much) {
		return fmt.Errorf("this silence covers %d of %d boards, more than 5 %% of the fleet, and nobody is paged for them: "+
			"to confirm that, write \"confirm %d\" into its comment. For work on a rack, `collector maintenance start` tells afterwards what did not come back",
			much.Boards, much.Of, much.Boards)
	}
	return nil
}

// coverOf is what a silence covers that holds where one of the sets matches.
func (p *Pager) coverOf(sets ...amlabels.Matchers) maintenance.Coverage {
	var names []string
	if p.boardAlerts != nil {
		names = p.boardAlerts()
	}
	fleet := p.mutes.book.Fleet()
	all := maintenance.Coverage{Of: len(fleet)}
	for _, ms := range sets {
		all.Boards = append(all.Boards, maintenance.Cover(ms, fleet, names).Boards...)
	}
	slices.Sort(all.Boards)
	all.Boards = slices.Compact(all.Boards)
	return all
}

// decodeSilence reads what matters here of a silence. What it cannot read it leaves to Alertmanager, which refuses it.
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

// confirmation is what the comment of a silence says that covers more than 5 % of the fleet. amtool has no other field
// for it, and a number cannot be confirmed without having been read.
var confirmation = regexp.MustCompile(`(?i)\bconfirm (\d{1,7})\b`)
