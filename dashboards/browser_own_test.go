package dashboards

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bramble/alerting/rules"
	"bramble/storage"
)

// TestBrowserOwn goes over a customer's pages in a browser: boards, a threshold, a contact, a board's graphs.
func TestBrowserOwn(t *testing.T) {
	var mu sync.Mutex
	book := OwnBook{Customer: "Kelp & Co", Thresholds: []OwnThreshold{}, Contacts: []OwnContact{}, Mail: true, Waiting: 3, WaitingUntil: time.Now().Add(time.Hour).UnixMilli(), Limits: map[string]int{"mailsAnHour": 20, "mailsADay": 100}}
	for _, k := range rules.ThresholdKinds {
		book.Kinds = append(book.Kinds, OwnKind{k.Name, k.Fixed, k.Min, k.Max, k.MaxHysteresis})
	}
	own := leasehold()
	own.Alerts = func(context.Context, string) ([]OwnAlert, error) {
		now := time.Now().UnixMilli()
		return []OwnAlert{{Board: "r1-02", Name: "hot", Since: now - 60_000, Threshold: true}, {Board: "r1-02", Name: "Throttled", Severity: "critical", Since: now - 600_000, Until: now - 300_000}}, nil
	}
	own.Settings.Get = func(context.Context, string) (OwnBook, error) { mu.Lock(); defer mu.Unlock(); return book, nil }
	own.Settings.SetThreshold = func(_ context.Context, _, _ string, set rules.Threshold) error {
		mu.Lock()
		defer mu.Unlock()
		if set.Value > 110 {
			return fmt.Errorf("%w: hot takes 30 to 110", ErrBadRequest)
		}
		book.Thresholds = append(book.Thresholds, OwnThresholdOf(set))
		return nil
	}
	own.Settings.AddContact = func(_ context.Context, _, _, address string) error {
		mu.Lock()
		defer mu.Unlock()
		book.Contacts = append(book.Contacts, OwnContact{ID: "c1", Address: address, AskedAt: 1})
		return nil
	}
	now := time.Now()
	own.History = func(_ context.Context, _ string, q HistoryQuery) ([]Span, error) {
		span := Span{Labels: map[string]string{}}
		if len(q.By) > 0 {
			span.Labels[q.By[0]] = map[string]string{"source": "measured", "reason": "throttled"}[q.By[0]]
		}
		for i := range 80 {
			v := map[string]float64{"pi_soc_temperature_celsius": 60 + float64(i%20), "pi_cpu_clock_hertz": 1.2e9, "pi_cpu_clock_lost_hertz": 1e8 * float64(i%5), "pi_throttled": float64(i / 70)}[q.Metric]
			span.At = append(span.At, now.Add(time.Duration(i-80)*10*time.Second).UnixMilli())
			span.Min, span.Max = append(span.Min, v), append(span.Max, v)
		}
		if q.Metric == "pi_cpu_clock_hertz" {
			requested := span
			requested.Labels = map[string]string{"source": "requested"}
			return []Span{span, requested}, nil
		}
		return []Span{span}, nil
	}
	auth := ofCustomers()
	auth.passwords["kim"] = "secret"
	auth.session = "kelp-token"
	boards := func() []Board {
		all := threeBoards()
		all[0].Labels["model"] = "Raspberry Pi 3 Model B Plus Rev 1.3"
		return all
	}
	s, web := start(t, parts{Auth: auth, Own: own, Boards: boards})
	s.Hub().Publish("r1-02", now.UnixMilli(), of(readings{"pi_soc_temperature_celsius": 71.5, `pi_cpu_clock_hertz{source="measured"}`: 6e8, `pi_throttled{reason="throttled"}`: 1, "pi_board_up": 1}))
	b := openTab(t, web.URL)
	b.open("/")
	b.text("h1", "Log in")
	b.do(chromedp.SendKeys("input[name=name]", "kim"), chromedp.SendKeys("input[name=password]", "secret"), chromedp.Click("button"))
	b.text("[data-board=r1-02]", "71.5 °C")
	b.text("[data-board=r1-02]", "throttled")
	b.text("#own-alerts", "SoC temperature")
	b.text("#own-waiting", "3 alerts wait")
	b.until("document.querySelector('#threshold-form select').options.length === 5", "document.querySelector('#threshold-form').outerHTML")
	b.script(`{ const f = document.querySelector("#threshold-form"); f.value.value = "120"; f.requestSubmit(); }`)
	b.text("#threshold-said", "30 to 110")
	b.mu.Lock()
	b.faults = nil // the refusal was asked for
	b.mu.Unlock()
	b.script(`{ const f = document.querySelector("#threshold-form"); f.value.value = "75"; f.board.value = "r1-02"; f.requestSubmit(); }`)
	b.text("#threshold-list", "from 75 °C, ends 3 °C below")
	b.script(`{ const f = document.querySelector("#contact-form"); f.address.value = "ops@example.org"; f.requestSubmit(); }`)
	b.text("#contact-list", "not confirmed")
	b.until("!document.body.textContent.includes('x-01')", "document.body.textContent")
	b.shots("own")
	b.open("/own/board/r1-02")
	b.text("h1", "r1-02")
	b.text(".summary-text", "60.0 to 79.0 °C")
	b.until(temperatureLines+`.includes("60 °C soft limit")`, temperatureLines) // a 3B+ has one
	b.until(pixels("temperature", "--soft")+" > 250", pixels("temperature", "--soft"))
	b.shots("ownboard")
	b.open("/own/contact/good")
	b.text("h1", "Alerts of Kelp & Co")
	b.shots("owncontact")
	b.clean()
}

// TestBrowserLostClockOnBothPages: a board that reports at instants of its own has its measured clock and what it lost on
// the customer's page as on the operator's. That its readings are from before it was enrolled, as imported ones are, hides
// none of their gaps.
func TestBrowserLostClockOnBothPages(t *testing.T) {
	r, stop := rollups(t, t.TempDir(), 90*24*time.Hour)
	defer stop()
	now := time.Now()
	var rows []storage.Row
	put := func(at time.Time, value float64, name string, labels ...string) {
		all := []storage.Label{{Name: "__name__", Value: name}, {Name: "board", Value: "r1-02"}, {Name: "customer", Value: "Kelp & Co"}}
		if len(labels) > 0 {
			all = append(all, storage.Label{Name: labels[0], Value: labels[1]})
		}
		rows = append(rows, storage.Row{Series: storage.SeriesOf(all), At: at.UnixMilli(), Value: value})
	}
	for at := now.Truncate(10 * time.Second).Add(-20*time.Minute + 3400*time.Millisecond); at.Before(now); at = at.Add(10 * time.Second) {
		if ago := now.Sub(at); ago > 8*time.Minute && ago < 10*time.Minute {
			continue
		}
		put(at, 81, "pi_soc_temperature_celsius")
		put(at, 1.2e9, "pi_cpu_clock_hertz", "source", "requested")
		put(at, 6e8, "pi_cpu_clock_hertz", "source", "measured")
		put(at, 1, "pi_throttled", "reason", "throttled")
	}
	if err := r.Raw.Add(rows); err != nil {
		t.Fatal(err)
	}
	own := leasehold()
	own.History = func(ctx context.Context, customer string, q HistoryQuery) ([]Span, error) {
		found, err := storage.QueryReadings(ctx, r.Raw, clockLoss, storage.HistoryQuery{
			Metric: q.Metric, Match: []storage.Label{{Name: "board", Value: q.Board}, {Name: "customer", Value: customer}}, By: q.By, Start: q.Start, End: q.End, Step: q.Step,
		})
		return spansOf(found), err
	}
	auth := ofCustomers()
	auth.passwords["kim"] = "secret"
	auth.session = "kelp-token"
	operator, customer := historyOf(r), historyOf(r)
	operator.Boards = func() []Board {
		boards := threeBoards()
		boards[0].EnrolledAt = now.UnixMilli()
		return boards
	}
	customer.Boards = operator.Boards
	customer.Open, customer.Auth, customer.Own = false, auth, own
	_, ofOperator := start(t, operator)
	_, ofCustomer := start(t, customer)
	view := fmt.Sprintf("?from=%d&to=%d", now.Add(-15*time.Minute).UnixMilli(), now.UnixMilli())
	b := openTab(t, ofOperator.URL)
	for _, page := range []struct{ origin, path string }{{ofOperator.URL, "/board/r1-02"}, {ofCustomer.URL, "/own/board/r1-02"}} {
		b.visit(page.origin, page.path+view)
		if page.origin == ofCustomer.URL {
			b.do(chromedp.SendKeys("input[name=name]", "kim"), chromedp.SendKeys("input[name=password]", "secret"), chromedp.Click("button"))
		}
		b.text("h1", "r1-02")
		b.text(".summary-text", "up to 600 MHz lost")
		b.text(".summary-text", "measured clock 600 to 600 MHz")
		b.text(".summary-text", "1 gap without readings, 2 m")
		b.until(inkOf("clock", "accent", 40)+" > 200", inkOf("clock", "accent", 40)) // the line of the measured clock
	}
	b.clean()
}

// inkOf counts the pixels of a graph that have the colour of a token, or one that differs by less in each channel.
func inkOf(graph, token string, less int) string {
	return fmt.Sprintf(`(() => {
		const c = document.querySelector('[data-graph="%s"] canvas');
		const want = getComputedStyle(document.documentElement).getPropertyValue("--%s").trim().match(/\w\w/g).map((h) => parseInt(h, 16));
		const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
		let n = 0;
		for (let i = 0; i < d.length; i += 4) if (d[i+3] > 40 && want.every((w, k) => Math.abs(w - d[i+k]) < %d)) n++;
		return n;
	})()`, graph, token, less)
}

// shots takes a picture of a page in both themes and on a phone, where BRAMBLE_SHOTS names a directory.
func (b *tab) shots(name string) {
	if os.Getenv("BRAMBLE_SHOTS") == "" {
		return
	}
	for _, of := range []struct {
		width int64
		theme string
	}{{1440, "light"}, {1440, "dark"}, {390, "light"}} {
		b.size(of.width, 900, of.theme)
		b.shot(name, of.width, of.theme)
	}
	b.size(1440, 900, "light")
}

// shot takes a picture of a page as it is, where BRAMBLE_SHOTS names a directory.
func (b *tab) shot(name string, width int64, theme string) {
	dir := os.Getenv("BRAMBLE_SHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(fmt.Sprintf("%s/%s-%d-%s.png", dir, name, width, theme), png, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}
