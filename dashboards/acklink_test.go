package dashboards

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// linkTable is a collector with one incident and the links "good", "old" and "over" to it.
type linkTable struct {
	mu       sync.Mutex
	incident Incident
	acks     []string
}

func (l *linkTable) links() *links {
	return &links{
		Open: func(_ context.Context, link string) (Linked, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			switch link {
			case "good", "over":
				return Linked{Incident: l.incident, Receiver: "oncall", Before: "#3: the fan", Picture: "/picture/good", Expires: time.UnixMilli(0)}, nil
			case "old":
				return Linked{}, ErrLinkExpired
			}
			return Linked{}, ErrLink
		},
		Acknowledge: func(_ context.Context, link, name, comment string, from netip.Addr) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if link == "over" {
				return ErrResolved
			}
			l.acks = append(l.acks, strings.Join([]string{name, comment, from.String()}, "|"))
			l.incident.State, l.incident.AcknowledgedAt, l.incident.AcknowledgedBy = "acknowledged", 1, name
			return nil
		},
		Picture: func(_ context.Context, link string) ([]byte, error) {
			switch link {
			case "good":
				return []byte("\x89PNG"), nil
			case "gone":
				return nil, ErrUnknownIncident
			}
			return nil, ErrLink
		},
	}
}

func (l *linkTable) acknowledged() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.acks...)
}

func startLinks(t *testing.T) (*linkTable, func(method, path, body string, header ...string) (int, string, http.Header)) {
	t.Helper()
	l := &linkTable{incident: Incident{ID: "i1", Number: 7, Title: "r1-01: <hot>", State: "firing", Severity: "critical", Since: 1000, Runbook: "Look at the fan."}}
	_, web := start(t, parts{Auth: newTokens(), Links: l.links()})
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return l, func(method, path, body string, header ...string) (int, string, http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(b), answer.Header
	}
}

// A mail scanner follows every link of a mail. Only the button acknowledges.
func TestFollowingALinkChangesNothing(t *testing.T) {
	l, do := startLinks(t)
	for _, method := range []string{"GET", "HEAD", "GET"} {
		if code, _, _ := do(method, "/ack/good", ""); code != http.StatusOK {
			t.Errorf("%s: %d", method, code)
		}
	}
	_, page, header := do("GET", "/ack/good", "")
	for _, want := range []string{"r1-01: &lt;hot&gt;", "Look at the fan.", "#3: the fan", `<form method="post" action="/ack/good">`, `src="/picture/good"`, "Incident #7"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if header.Get("Cache-Control") != "no-store" || header.Get("X-Robots-Tag") != "noindex" {
		t.Errorf("header %v", header)
	}
	if got := l.acknowledged(); len(got) != 0 {
		t.Errorf("acknowledged %v by following the link", got)
	}
}

func TestTheButtonOfALinkAcknowledges(t *testing.T) {
	l, do := startLinks(t)
	form := url.Values{"name": {" mira "}, "comment": {"on it"}}.Encode()
	code, _, header := do("POST", "/ack/good", form, "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html")
	if code != http.StatusSeeOther || header.Get("Location") != "/ack/good" {
		t.Errorf("%d to %q", code, header.Get("Location"))
	}
	if got := l.acknowledged(); len(got) != 1 || got[0] != "mira|on it|127.0.0.1" {
		t.Errorf("acknowledged %v", got)
	}
	if _, page, _ := do("GET", "/ack/good", ""); !strings.Contains(page, "Acknowledged</b> by mira") {
		t.Error("the page does not say who has it")
	}
}

// A phone posts nothing but the address; a web client of ntfy does so from another site, without a cookie.
func TestANotificationAcknowledges(t *testing.T) {
	l, do := startLinks(t)
	code, body, header := do("POST", "/ack/good", "", "Origin", "https://ntfy.example.org", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors")
	if code != http.StatusOK || !strings.Contains(body, `"acknowledged":true`) || header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %s", code, body)
	}
	if got := l.acknowledged(); len(got) != 1 || got[0] != "||127.0.0.1" {
		t.Errorf("acknowledged %v", got)
	}
	if code, _, _ := do("POST", "/api/incidents/i1/ack", "", "Origin", "https://ntfy.example.org", "Sec-Fetch-Site", "cross-site"); code != http.StatusForbidden {
		t.Errorf("another site may post elsewhere too: %d", code)
	}
}

func TestLinksThatDoNotHold(t *testing.T) {
	l, do := startLinks(t)
	f := func(method, path string, code int, want string) {
		t.Helper()
		got, body, _ := do(method, path, "", "Accept", "text/html")
		if got != code || !strings.Contains(body, want) {
			t.Errorf("%s %s: %d %s, want %d and %q", method, path, got, body, code, want)
		}
	}
	f("GET", "/ack/wrong", http.StatusForbidden, "This link does not hold")
	f("POST", "/ack/wrong", http.StatusForbidden, "This link does not hold")
	f("GET", "/ack/old", http.StatusGone, "This link has expired")
	f("POST", "/ack/over", http.StatusConflict, "The incident is resolved")
	f("GET", "/picture/gone.png", http.StatusNotFound, "no picture")
	if got := l.acknowledged(); len(got) != 0 {
		t.Errorf("acknowledged %v", got)
	}
	// Guessing ends soon, for links and pictures together.
	for range 3 {
		f("GET", "/picture/wrong", http.StatusForbidden, "not one of this collector's")
	}
	f("GET", "/ack/wrong", http.StatusTooManyRequests, "Too many wrong links")
	f("GET", "/picture/wrong", http.StatusTooManyRequests, "too many")
}

func TestAcknowledgingByLinkIsLimited(t *testing.T) {
	l, do := startLinks(t)
	for range freeAcks {
		if code, body, _ := do("POST", "/ack/good", ""); code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
	}
	if code, _, header := do("POST", "/ack/good", ""); code != http.StatusTooManyRequests || header.Get("Retry-After") == "" {
		t.Errorf("got %d, want 429 with Retry-After", code)
	}
	if n := len(l.acknowledged()); n != freeAcks {
		t.Errorf("%d acknowledgements", n)
	}
}

func TestALinkedPicture(t *testing.T) {
	_, do := startLinks(t)
	code, body, header := do("GET", "/picture/good.png", "")
	if code != http.StatusOK || body != "\x89PNG" || header.Get("Content-Type") != "image/png" || header.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
		t.Errorf("%d %q %v", code, body, header)
	}
}
