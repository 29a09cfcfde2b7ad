package dashboards

import (
	"fmt"
	"testing"
	"time"

	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"bramble/storage"
)

// fillStore writes 14 minutes of readings, 10 s apart, with a gap of 3 minutes; the board
// throttles in the last 4 minutes. It returns the time of the last reading.
func fillStore(t *testing.T, store *storage.Store, board string) int64 {
	t.Helper()
	series := func(name, label, value string) storage.Series {
		ls := []storage.Label{{Name: "__name__", Value: name}, {Name: "board", Value: board}, {Name: "rack", Value: "r1"}}
		if label != "" {
			ls = append(ls, storage.Label{Name: label, Value: value})
		}
		return storage.SeriesOf(ls)
	}
	temperature := series("pi_soc_temperature_celsius", "", "")
	requested, measured := series("pi_cpu_clock_hertz", "source", "requested"), series("pi_cpu_clock_hertz", "source", "measured")
	bit := series("pi_throttled", "reason", "throttled")
	end := time.Now().UnixMilli() - 5000
	var rows []storage.Row
	for i := int64(84); i >= 0; i-- {
		at := end - i*10_000
		if i > 50 && i < 68 {
			continue
		}
		t, clock, throttle := 55.0, 1.2e9, 0.0
		if i < 24 {
			t, clock, throttle = 83.5, 657e6, 1
		}
		rows = append(rows, storage.Row{Series: temperature, At: at, Value: t}, storage.Row{Series: requested, At: at, Value: 1.2e9},
			storage.Row{Series: measured, At: at, Value: clock}, storage.Row{Series: bit, At: at, Value: throttle})
	}
	if err := store.Add(rows); err != nil {
		t.Fatal(err)
	}
	return end
}

// pixels counts pixels of a graph's canvas that are nearly of a colour.
func pixels(graph, token string) string {
	return fmt.Sprintf(`(() => {
		const c = document.querySelector('[data-graph=%q] canvas');
		const want = getComputedStyle(document.documentElement).getPropertyValue(%q).trim().match(/\w\w/g).map((h) => parseInt(h, 16));
		const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
		let n = 0;
		for (let i = 0; i < d.length; i += 4) if (d[i+3] > 100 && want.every((w, k) => Math.abs(w - d[i+k]) < 24)) n++;
		return n;
	})()`, graph, token)
}

// temperatureLines is the text of the temperature's graph, in a browser.
const temperatureLines = `document.querySelector('[data-graph="temperature"] .plot').getAttribute("aria-label")`

// Stored readings are drawn with their gap, and those that arrive are appended.
func TestBrowserBoardWithStore(t *testing.T) {
	store, err := storage.Open(t.TempDir(), storage.Options{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	watched := make(chan string, 8)
	s, web := start(t, parts{Open: true, Series: store.Handler(), Watch: func(board, _ string, _ time.Duration) error {
		watched <- board
		return nil
	}})
	b := openTab(t, web.URL)
	// A reading that is published between the query and the subscription would be nowhere on the page.
	slow := cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: `const [send, ask] = [WebSocket.prototype.send, window.fetch];
		WebSocket.prototype.send = function (m) { setTimeout(() => { window.subscribed ||= m.includes('"board":"r1-01"'); send.call(this, m); }, 300); };
		window.fetch = (path, ...rest) => { if (path.includes("query_range") && !window.subscribed) window.askedEarly = true; return ask(path, ...rest); };`}
	if _, err := chromedp.Call(b.ctx, cdpage.AddScriptToEvaluateOnNewDocument, slow); err != nil {
		t.Fatal(err)
	}
	last := fillStore(t, store, "r1-01") // the page's text depends on how long ago that was
	b.open("/board/r1-01")
	b.text(".summary-text", "55.0 to 83.5 °C")
	b.text(".summary-text", "measured clock 657 to 1200 MHz")
	b.text(".summary-text", "up to 543 MHz lost")
	b.text(".summary-text", "throttled for 4 m")
	b.until(`/[23] gaps/.test(document.querySelector(".summary-text").textContent)`, `document.querySelector(".summary-text").textContent`) // a third at the end where this is slow
	b.until(`window.subscribed && !window.askedEarly`, `[window.subscribed, window.askedEarly]`)
	b.until(`Number(document.getElementById("graphs").dataset.points) === 68`, `document.getElementById("graphs").dataset.points`)
	b.until(pixels("clock", "--accent")+" > 300", pixels("clock", "--accent"))
	b.until(pixels("clock", "--critical")+" > 100", pixels("clock", "--critical"))
	b.until(temperatureLines+`.endsWith("with lines at 80 °C ARM throttled, 85 °C ARM and GPU")`, temperatureLines) // a 3B has no soft limit
	b.until(pixels("lanes", "--throttled")+" > 300", pixels("lanes", "--throttled"))
	b.until(pixels("temperature", "--line-strong")+" > 100", pixels("temperature", "--line-strong"))

	s.Hub().Publish("r1-01", last+7000, full(84.4, 1.2e9, 600e6, 1))
	b.text(`#board-head [data-field="temperature"]`, "84.4 °C")
	b.text(`#board-head [data-field="measured"]`, "600")
	b.text(".summary-text", "55.0 to 84.4 °C")
	b.until(`Number(document.getElementById("graphs").dataset.points) === 69`, `document.getElementById("graphs").dataset.points`)

	b.until(`(document.getElementById("live-toggle").click(), true)`, "0")
	b.text("#live-toggle", "you are watching: 1 Hz")
	if got := <-watched; got != "r1-01" {
		t.Errorf("watched %q", got)
	}
	b.open("/board/r1-01?range=24h")
	b.text(".summary-text", "55.0 to 8")
	b.text(".summary-text", "up to 543 MHz lost") // the worst moment shows, however far out
	b.clean()
}

// An idle board that changes its clock all day has lost nothing, also where a
// step of the graph holds its highest and its lowest clock.
func TestBrowserIdleBoardLosesNothing(t *testing.T) {
	store, err := storage.Open(t.TempDir(), storage.Options{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	clock := func(source string) storage.Series {
		return storage.SeriesOf([]storage.Label{{Name: "__name__", Value: "pi_cpu_clock_hertz"}, {Name: "board", Value: "r1-01"}, {Name: "source", Value: source}})
	}
	requested, measured := clock("requested"), clock("measured")
	end := time.Now().UnixMilli() - 5000
	var rows []storage.Row
	for i := range int64(8640) {
		at, hertz := end-i*10_000, []float64{600e6, 600e6, 1000e6}[i%3]
		rows = append(rows, storage.Row{Series: requested, At: at, Value: hertz}, storage.Row{Series: measured, At: at, Value: hertz})
	}
	if err := store.Add(rows); err != nil {
		t.Fatal(err)
	}
	_, web := start(t, parts{Open: true, Series: store.Handler()})
	b := openTab(t, web.URL)
	b.open("/board/r1-01?range=24h")
	b.text(".summary-text", "measured clock 600 to 1000 MHz")
	b.text(".summary-text", "no clock lost")
	b.until(pixels("clock", "--critical")+" === 0", pixels("clock", "--critical"))
	b.clean()
}
