package descriptors

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestShares(t *testing.T) {
	f := func(limit, open, connected, want int) {
		t.Helper()
		b := share(limit, func() (int, error) { return open, nil })
		if got := b.Boards(connected); got != want {
			t.Errorf("limit %d, %d open, of which %d boards: enough for %d, want %d", limit, open, connected, got, want)
		}
	}
	f(20_000, 100, 0, 16_150)
	f(20_000, 100+5000, 5000, 16_150)
	f(524_288, 2000, 0, 505_904)
	f(1024, 100, 0, 604)
	f(1024, 10, 200, 704) // fewer than the boards take: they go just now
	f(256, 50, 0, 0)
}

// A count while many connections end does not take the places of those that come again.
func TestOneHighCountTakesNoPlaces(t *testing.T) {
	open := 100 + 5000
	b := share(20_000, func() (int, error) { return open, nil })
	want := b.Boards(5000)
	if got := b.Boards(0); got != want {
		t.Errorf("enough for %d while connections end, want %d", got, want)
	}
	for range counts {
		open = 400
		if got := b.Boards(0); got > want {
			t.Errorf("enough for %d", got)
		}
	}
	if got := b.Boards(0); got != want-300 {
		t.Errorf("enough for %d with 300 more open for long, want %d", got, want-300)
	}
}

// A limit under which the collector would only seem to run is refused, and the error says which one is enough.
func TestALimitThatIsTooSmall(t *testing.T) {
	f := func(limit int, want string) {
		t.Helper()
		err := share(limit, func() (int, error) { return 10, nil }).Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("limit %d: %v, want %q", limit, err, want)
		}
	}
	f(60, "may have 60 files open, and the collector needs 512")
	f(511, "may have 511 files open, and the collector needs 512")
	f(512, "")
	if n := share(least, func() (int, error) { return 110, nil }).Boards(0); n < 80 {
		t.Errorf("the smallest limit is enough for %d boards, and the error promises 80", n)
	}
}

func TestOpenFilesAreCounted(t *testing.T) {
	before, err := countOpen()
	if err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	after, err := countOpen()
	if err != nil || after <= before {
		t.Errorf("%d open, %d with one more, %v", before, after, err)
	}
}

// Of a browser's connections the idle go first, then the oldest with a request; websockets stay.
func TestBrowsersGiveWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := share(minWeb*webShare, func() (int, error) { return 0, nil })
	b.web = 3
	w := b.Web(l)
	defer w.Close()
	var open []net.Conn
	accept := func() {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s, err := w.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		open = append(open, s)
	}
	ended := func(want ...int) {
		t.Helper()
		for i, c := range open {
			gone := true
			w.mu.Lock()
			for o := range w.open {
				gone = gone && o != c
			}
			w.mu.Unlock()
			should := false
			for _, n := range want {
				should = should || n == i
			}
			if gone != should {
				t.Errorf("connection %d has ended: %v, want %v", i, gone, should)
			}
		}
	}
	accept() // 0: a websocket
	w.State(open[0], http.StateHijacked)
	accept() // 1: busy
	w.State(open[1], http.StateActive)
	accept() // 2: new
	ended()
	accept() // 3
	ended(2)
	w.State(open[3], http.StateActive)
	accept() // 4
	ended(2, 1)
	w.State(open[3], http.StateHijacked)
	w.State(open[4], http.StateHijacked)
	accept() // 5: nobody gives way
	ended(2, 1, 5)
	if w.Ended() != 3 || b.webOpen.Load() != 3 {
		t.Errorf("%d ended, %d open, want 3 and 3", w.Ended(), b.webOpen.Load())
	}
}
