package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/chromedp/chromedp"
)

// browserTab opens a real browser, or skips the test where there is none, unless
// BRAMBLE_REQUIRE_BROWSER=1 asks for one.
func browserTab(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"google-chrome", "chromium-browser", "chromium"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
		}
	}
	if path == "" {
		if os.Getenv("BRAMBLE_REQUIRE_BROWSER") == "1" {
			t.Fatal("no chromium found, and BRAMBLE_REQUIRE_BROWSER=1 requires one")
		}
		t.Skip("no chromium found: install it to run the browser tests")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1440, 900), chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	alloc, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	// The first call starts the browser, which ends with that call's context.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// shows waits for a JavaScript expression to be true, on any page that the tab
// goes to meanwhile, and shows the page's text when it never is.
func shows(tab context.Context, t *testing.T, condition string) {
	t.Helper()
	eventually(t, patience, func() error {
		ctx, cancel := context.WithTimeout(tab, patience)
		defer cancel()
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		if err == nil && !is {
			seen, _ := chromedp.Run(ctx, chromedp.Evaluate[any]("document.body?.innerText")) // only to explain
			err = fmt.Errorf("never true: %s; the page shows %v", condition, seen)
		}
		return err
	})
}

func steps(tab context.Context, t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// TestReplayIsSeenInTheBrowser logs in and watches a replay arrive.
func TestReplayIsSeenInTheBrowser(t *testing.T) {
	t.Parallel()
	tab := browserTab(t)
	s := newServer(t, "127.0.0.1")
	b := s.enrol("pi-1", s.nats, "rack=r1")
	s.do("correct horse battery staple\n", "user", "add", "ada")
	r := understand(t, "3b", throttling3B)
	s.replayed(b, r)

	steps(tab, t, chromedp.Navigate(s.url()))
	shows(tab, t, `location.pathname === "/login" && document.querySelector("[name=password]")`)
	steps(tab, t, chromedp.SendKeys(chromedp.CSS(`[name="name"]`), "ada"),
		chromedp.SendKeys(chromedp.CSS(`[name="password"]`), "correct horse battery staple\r"))
	cell := func(field string) string {
		return fmt.Sprintf(`document.querySelector('tr[data-board="pi-1"] [data-field=%q]')?.dataset.value`, field)
	}
	shows(tab, t, `location.pathname === "/" && document.querySelector('tr[data-board="pi-1"]').innerText.includes("stopped")`) // as its recording ended

	// The third row is an hour away: the replay goes on until it is killed, so the board is up.
	hotter := understand(t, "hotter", "t_s,requested_mhz,firmware_mhz,temp_c\n0,1400,1200,66.5\n1,1400,1195,67.5\n3600,1400,1195,67.5\n")
	defer b.replay(t, hotter, "--speed", "1").kill()
	shows(tab, t, cell("temperature")+` === "67.5" && `+cell("measured")+` === "1195000000" && `+cell("requested")+` === "1400000000"`) // without a reload

	steps(tab, t, chromedp.Navigate(s.url()+"board/pi-1"))
	shows(tab, t, `document.querySelectorAll(".graph canvas").length >= 2`)
	shows(tab, t, fmt.Sprintf(`document.getElementById("graphs").dataset.points === "%d"`, s.seconds("pi_soc_temperature_celsius", 9)))
	shows(tab, t, `document.body.innerText.includes("67.5")`)
	s.t.Log("the board's page shows the temperature of the live socket")
}

// seconds is in how many seconds the readings of a series lie, which are to be so many: a graph of 15 minutes has a point
// for each second that has readings.
func (s *server) seconds(series string, readings int) int {
	s.t.Helper()
	found, err := s.export(series, false)
	if err != nil || len(found) != 1 || len(found[0].Timestamps) != readings {
		s.t.Fatalf("%s: want one series of %d readings: %v, %v", series, readings, found, err)
	}
	in := map[int64]bool{}
	for _, at := range found[0].Timestamps {
		in[(at+999)/1000] = true // of the readings after a second and up to the next
	}
	return len(in)
}
