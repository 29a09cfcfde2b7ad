package rehearse

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
	"bramble/storage"
	"bramble/storage/series"
)

// past is a store with a day of two racks, from 20:00 to 20:00.
type past struct {
	*storage.Store
	begin time.Time
	fleet map[string]alert.Place
	rows  []storage.Row
}

func newPast(t testing.TB, boards int) *past {
	t.Helper()
	s, err := storage.Open(t.TempDir(), storage.Options{MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &past{Store: s, begin: time.Now().UTC().Truncate(24 * time.Hour).Add(-48*time.Hour + 20*time.Hour), fleet: map[string]alert.Place{}}
	for i := range boards {
		labels := map[string]string{"rack": fmt.Sprint("r", 1+i%2)}
		if i%4 == 3 {
			labels["customer"] = "alder"
		}
		p.fleet[fmt.Sprint("b", i)] = alert.Place{Labels: labels, Watched: true}
	}
	return p
}

// add stores a day of one metric of each board, a value every 30 s.
func (p *past) add(t testing.TB, metric string, value func(board, minute int) float64) {
	t.Helper()
	for i := range len(p.fleet) {
		place := p.fleet[fmt.Sprint("b", i)]
		ls := []series.Label{{Name: "__name__", Value: metric}, {Name: "board", Value: fmt.Sprint("b", i)}}
		if c := place.Labels["customer"]; c != "" {
			ls = append(ls, series.Label{Name: "customer", Value: c})
		}
		name := storage.SeriesOf(append(ls, series.Label{Name: "rack", Value: place.Labels["rack"]}))
		for half := range 24 * 60 * 2 {
			if v := value(i, half/2); v >= 0 {
				p.rows = append(p.rows, storage.Row{Series: name, At: p.begin.Add(time.Duration(half) * 30 * time.Second).UnixMilli(), Value: v})
			}
		}
	}
	if err := p.Add(p.rows); err != nil {
		t.Fatal(err)
	}
	p.rows = nil
}

// mustRules loads rules given as the `rules:` list of one group.
func mustRules(t testing.TB, list string) *rules.Rules {
	t.Helper()
	r, err := rules.Load(map[string][]byte{"t.yml": []byte("groups:\n- name: g\n  interval: 10s\n  rules:\n" + list)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRehearse counts pages of a day in which a rack overheats at night, one board in the afternoon, a customer's board goes
// silent, and a board vanishes while it is hot.
func TestRehearse(t *testing.T) {
	p := newPast(t, 12)
	p.add(t, "temp", func(board, minute int) float64 {
		switch {
		case board%2 == 0 && minute >= 6*60 && minute < 7*60: // rack r1 from 02:00 to 03:00
			return 85
		case board == 5 && minute >= 18*60 && minute < 19*60: // 14:00
			return 85
		case board == 7 && minute >= 20*60: // hot, and gone a minute later
			if minute > 20*60 {
				return -1
			}
			return 90
		}
		return 60
	})
	p.add(t, "up", func(board, minute int) float64 {
		if (board == 3 || board == 4) && minute >= 10*60 && minute < 11*60 { // 3 is a customer's, 4 is not; 06:00
			return 0
		}
		return 1
	})
	rules := mustRules(t, `
  - {alert: Hot, expr: temp >= 80, keep_firing_for: 2m, annotations: {what: hot, summary: '{{ $labels.board }} at {{ $value }}'}}
  - {alert: Slow, expr: 'avg_over_time(temp[5m]) >= 80', for: 3m}
  - {alert: Silent, expr: up == 0, labels: {pages: domains}}
  - {alert: Tried, expr: temp >= 80, labels: {shadow: "true"}}
`)
	got, err := Run(t.Context(), Options{Rules: rules, Store: p, Fleet: p.fleet, From: p.begin, To: p.begin.Add(24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	want := &Rehearsal{
		Pages: 6, AtNight: 3, Nights: 1, Zone: "UTC", From: p.begin, To: p.begin.Add(24 * time.Hour),
		Rules: []Rule{
			{Rule: "g/Hot", Name: "Hot", Pages: 3, AtNight: 1, Domains: 1, Explained: 6, Boards: 8},
			{Rule: "g/Slow", Name: "Slow", Pages: 2, AtNight: 1, Domains: 1, Explained: 6, Boards: 7},
			{Rule: `g/Silent{pages="domains"}`, Name: "Silent", Pages: 1, AtNight: 1, Recorded: 1, Boards: 2},
			{Rule: `g/Tried{shadow="true"}`, Name: "Tried", Recorded: 3, Explained: 6, Shadow: true, Boards: 8},
		},
		Subjects: []Count{{"Rack r1", 2}, {"b5", 2}, {"b4", 1}, {"b7", 1}},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Rehearsal{}, "FirstPages")); d != "" {
		t.Error(d)
	}
	var pages []string
	for _, page := range got.FirstPages {
		pages = append(pages, fmt.Sprintf("%s %s %s %v: %s", page.At.Format("15:04"), page.Rule, page.Subject, page.Night, page.Summary))
	}
	wantPages := []string{
		"02:00 Hot Rack r1 true: Rack r1: 6 of 6 boards hot", "02:06 Slow Rack r1 true: Rack r1: 6 of 6 boards Slow", "06:00 Silent b4 true: ",
		"14:00 Hot b5 false: b5 at 85", "14:06 Slow b5 false: ", "16:00 Hot b7 false: b7 at 90",
	}
	if d := cmp.Diff(wantPages, pages); d != "" {
		t.Error(d)
	}
	zone, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	if got, err = Run(t.Context(), Options{Rules: rules, Store: p, Fleet: p.fleet, From: p.begin, To: p.begin.Add(24 * time.Hour), Zone: zone}); err != nil {
		t.Fatal(err)
	}
	if got.AtNight != 3 || got.Nights != 1 || got.Zone != "Asia/Tokyo" { // 14:00 and 16:00 UTC
		t.Errorf("in Tokyo %d pages in %d nights", got.AtNight, got.Nights)
	}
}

// TestRehearseInChunks sees the same in answers of any size.
func TestRehearseInChunks(t *testing.T) {
	p := newPast(t, 4)
	p.add(t, "temp", func(board, minute int) float64 { return float64(60 + 30*((minute/(7+board))%2)) })
	rules := mustRules(t, "  - {alert: Hot, expr: temp >= 80, for: 2m, keep_firing_for: 3m}\n  - {alert: Max, expr: 'max_over_time(temp[2m]) >= 80', for: 4m}\n")
	pages := func(boards int) int {
		fleet := map[string]alert.Place{}
		for i := range boards { // more boards, smaller chunks
			fleet[fmt.Sprint("x", i)] = alert.Place{}
		}
		got, err := Run(t.Context(), Options{Rules: rules, Store: p, Fleet: fleet, From: p.begin, To: p.begin.Add(6 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return got.Pages
	}
	whole := pages(1)
	for _, boards := range []int{maxPoints / 700, maxPoints / 37} {
		if got := pages(boards); got != whole || whole == 0 {
			t.Errorf("%d pages with chunks for %d boards, %d in one", got, boards, whole)
		}
	}
}

func TestRehearseErrors(t *testing.T) {
	p := newPast(t, 1)
	rules := mustRules(t, "  - {alert: A, expr: 'label_replace(temp, \"a\", \"b\", \"c\", \"(\") > 5'}\n")
	if _, err := Run(t.Context(), Options{Rules: rules, Store: p, From: p.begin, To: p.begin.Add(time.Hour)}); err == nil || !strings.Contains(err.Error(), `t.yml:5: rehearse rule "A"`) {
		t.Error(err)
	}
	if _, err := Run(t.Context(), Options{Rules: rules, Store: p, From: p.begin, To: p.begin}); err == nil {
		t.Error("an empty time is no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{Rules: rules, Store: p, From: p.begin, To: p.begin.Add(time.Hour)}); err == nil {
		t.Error("a cancelled one is no error")
	}
}

// BenchmarkRehearse reports the cost of a rule for a board and a day, in which it fires once.
func BenchmarkRehearse(b *testing.B) {
	const boards = 200
	p := newPast(b, boards)
	p.add(b, "temp", func(board, minute int) float64 { return float64(60 + 30*(minute/(5*board+30)%24/23)) })
	bench := func(name, rule string) {
		b.Run(name, func(b *testing.B) {
			rules := mustRules(b, rule)
			for b.Loop() {
				if _, err := Run(b.Context(), Options{Rules: rules, Store: p, Fleet: p.fleet, From: p.begin, To: p.begin.Add(24 * time.Hour)}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*boards), "µs/board-day")
		})
	}
	bench("arrival", "  - {alert: Hot, expr: temp >= 80, keep_firing_for: 2m}\n")
	bench("window", "  - {alert: Slow, expr: 'avg_over_time(temp[5m]) >= 80', for: 3m}\n")
}
