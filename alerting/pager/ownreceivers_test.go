package pager

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/alerttest/readings"
	"bramble/alerting/incident"
	"bramble/alerting/receivers"
	"bramble/alerting/rules"
)

// request is what a gateway got.
type request struct {
	method, path, body string
	header             http.Header
}

// gatewaySink is a real HTTP server; answer decides what it does with the n-th request, from 1 on.
func gatewaySink(t testing.TB, answer func(n int, w http.ResponseWriter, r *http.Request)) (string, chan request) {
	t.Helper()
	got, n := make(chan request, 1000), make(chan int, 1)
	n <- 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		now := <-n + 1
		n <- now
		got <- request{r.Method, r.URL.RequestURI(), string(b), r.Header}
		if answer != nil {
			answer(now, w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func nextRequest(t testing.TB, got chan request) request {
	t.Helper()
	select {
	case r := <-got:
		return r
	case <-time.After(patience):
		t.Fatalf("no request within %s", patience)
		return request{}
	}
}

// recordOnly has a receiver without an integration of Alertmanager's.
const recordOnly = `
route: {receiver: oncall, group_by: [alertname, board], group_wait: 0s, group_interval: 1s, repeat_interval: 4h}
receivers: [{name: oncall}]
`

// receiversFile writes a receivers.yml and returns its path.
func receiversFile(t testing.TB, dir, text string) string {
	t.Helper()
	file := filepath.Join(dir, "receivers.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// openOwn runs a pager with a receivers.yml.
func openOwn(t testing.TB, receivers string) *Pager {
	t.Helper()
	return openOwnRouted(t, recordOnly, receivers)
}

// openOwnRouted runs a pager with an alertmanager.yml and a receivers.yml.
func openOwnRouted(t testing.TB, config, receivers string) *Pager {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return runPager(t, Options{
		DB: openDB(t, t.TempDir()), Config: []byte(config), Receivers: receiversFile(t, dir, receivers), ExternalURL: "https://bramble.example.org/",
	})
}

func TestNtfyHasAButtonThatPosts(t *testing.T) {
	t.Parallel()
	address, got := gatewaySink(t, nil)
	p := openOwn(t, `
receivers:
  oncall:
    ntfy:
      - url: `+address+`
        topic: oncall
        http_config: {authorization: {credentials_file: token}}
`)
	t1 := alerttest.Fire("b1", time.Now())
	t1.Annotations["runbook"] = "Look at the fan."
	p.Deliver([]alert.Transition{t1})
	r := nextRequest(t, got)
	var m receivers.NtfyMessage
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatal(err)
	}
	if r.method != "POST" || r.path != "/" || r.header.Get("Authorization") != "Bearer s3cret" || r.header.Get("Idempotency-Key") == "" {
		t.Errorf("%s %s %v", r.method, r.path, r.header)
	}
	if m.Topic != "oncall" || !strings.HasPrefix(m.Title, "b1: SoC at 81.0 °C (rack r1) since ") || m.Priority != 5 || !strings.Contains(m.Message, "Look at the fan.") {
		t.Errorf("%+v", m)
	}
	if len(m.Actions) != 2 || m.Actions[0].Action != "http" || m.Actions[0].Method != "POST" || m.Actions[1].URL != "https://bramble.example.org/board/b1" {
		t.Fatalf("actions %+v", m.Actions)
	}
	link, err := p.ReadLink(receivers.AckLink, strings.TrimPrefix(m.Actions[0].URL, "https://bramble.example.org/ack/"))
	if err != nil {
		t.Fatal(err)
	}
	if in, err := p.Incident(context.Background(), link.Incident); err != nil || in.Title == "" {
		t.Errorf("%+v %v", in, err)
	}
	p.Deliver([]alert.Transition{alerttest.Resolve(t1, time.Now())})
	r = nextRequest(t, got)
	m = receivers.NtfyMessage{}
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(m.Title, "Resolved: b1") || m.Priority != 2 || len(m.Actions) != 1 {
		t.Errorf("resolved: %+v", m)
	}
}

// An SMS gateway that refuses, hangs up and answers with an error in its 200 is asked again, each time with the same
// page; what it got in the end is what the templates say.
func TestAGatewayIsAskedUntilItTakesThePage(t *testing.T) {
	t.Parallel()
	address, got := gatewaySink(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close()
			}
		case 3:
			io.WriteString(w, `{"status":"no credit"}`)
		default:
			io.WriteString(w, `{"status":"queued"}`)
		}
	})
	p := openOwn(t, `
receivers:
  oncall:
    http:
      - url: `+address+`/sms?to={{ urlquery "+49 1" }}
        headers: {Content-Type: application/json, Authorization: 'Basic {{ .Secret "key" }}'}
        body: '{"text":{{ short 60 .Subject | toJson }},"link":{{ toJson .CommonAnnotations.page_ack_url }}}'
        secrets: {key: token}
        expect: {status: [200, 202], body: '"status":"queued"'}
`)
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	var last request
	ids := map[string]bool{}
	for range 4 {
		last = nextRequest(t, got)
		ids[last.header.Get("Idempotency-Key")] = true
	}
	if len(ids) != 1 {
		t.Errorf("keys %v, want one", ids)
	}
	var body struct{ Text, Link string }
	if err := json.Unmarshal([]byte(last.body), &body); err != nil {
		t.Fatalf("%s: %v", last.body, err)
	}
	if last.path != "/sms?to=%2B49+1" || last.header.Get("Authorization") != "Basic s3cret" || len([]rune(body.Text)) > 60 || !strings.Contains(body.Link, "/ack/") {
		t.Errorf("%+v %+v", last, body)
	}
	// Where the connection was cut, Go's client itself asks again, since the request has an Idempotency-Key.
	waitFor(t, p, func(in incident.Incident) bool {
		return len(in.Pages) == 1 && in.Pages[0].State == "delivered" && in.Pages[0].Attempts >= 3
	})
}

// waitFor waits until the newest incident satisfies ok.
func waitFor(t testing.TB, p *Pager, ok func(incident.Incident) bool) {
	t.Helper()
	tick, late := time.NewTicker(20*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for {
		in, err := p.Incidents(context.Background(), incident.Query{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(in) == 1 && ok(in[0]) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("got %+v", in)
		}
	}
}

// A gateway that hangs and one whose template fails hold nobody else up.
func TestAGatewayThatHangsDelaysNobodyElse(t *testing.T) {
	release := make(chan struct{})
	hanging, asked := gatewaySink(t, func(int, http.ResponseWriter, *http.Request) { <-release })
	well, got := gatewaySink(t, nil)
	t.Cleanup(func() { close(release) }) // before the servers close
	p := openOwn(t, `
receivers:
  oncall:
    http:
      - {url: `+hanging+`}
      - {url: `+well+`/broken, body: '{{ if eq .GroupLabels.board "b1" }}{{ index .Alerts 7 }}{{ end }}'}
      - {url: `+well+`/well}
`)
	start := time.Now()
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	nextRequest(t, asked)
	if r := nextRequest(t, got); r.path != "/well" {
		t.Errorf("%+v", r)
	}
	if took := time.Since(start); took >= receivers.TryTimeout {
		t.Errorf("the page that was well took %s", took)
	}
	waitFor(t, p, func(in incident.Incident) bool {
		for _, page := range in.Pages {
			if strings.Contains(page.Error, "body: template:") && page.State == "waiting" {
				return true
			}
		}
		return false
	})
}

func TestReceiversAreRefusedAtLoad(t *testing.T) {
	t.Parallel()
	f := func(text, want string) {
		t.Helper()
		file := receiversFile(t, t.TempDir(), text)
		_, err := Open(Options{DB: openDB(t, t.TempDir()), Config: []byte(recordOnly), Receivers: file})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), file+": ") {
			t.Errorf("%s\ngot %v\nwant %s", text, err, want)
		}
	}
	http := func(more string) string { return "receivers:\n  oncall:\n    http:\n      - {" + more + "}\n" }
	f("receivers:\n  nobody:\n    links: false\n", `line 3: no receiver "nobody" in the alertmanager.yml; it has oncall`)
	f("receivers:\n  oncall:\n    sms: 1\n", "line 3: field sms not found")
	f("receivers:\n  oncall:\n", `receiver "oncall" is empty`)
	f("receiver: {}\n", "line 1: field receiver not found")
	f("receivers:\n  oncall:\n    ntfy: [{url: 'ntfy.example.org', topic: a}]\n", `line 3: receiver "oncall": ntfy: url "ntfy.example.org": want the server's address`)
	f("receivers:\n  oncall:\n    ntfy: [{url: 'https://n.example', topic: 'a b'}]\n", `topic "a b"`)
	f("receivers:\n  oncall:\n    ntfy: [{url: 'https://n.example', topic: a, priority: high}]\n", `priority: the template makes "high"`)
	f(http("body: x"), "line 4: receiver \"oncall\": http: url is missing")
	f(http("url: 'https://g.example', method: PATCH"), `method "PATCH"`)
	f(http("url: 'https://g.example', body: '{{ .Nothing.At.All }}'"), "body: template:")
	f(http("url: 'https://g.example', body: '{{ if }}'"), "body: template:")
	f(http("url: 'https://g.example', body: '{{ .Secret \"key\" }}'"), `no secret "key"`)
	f(http("url: 'https://g.example', secrets: {key: /no/such/file}"), "read secret")
	f(http("url: 'https://g.example', expect: {body: '('}"), "expect: body")
	f(http("url: 'https://g.example', expect: {status: [2]}"), "expect: status 2")
	f(http("url: '{{ .Receiver }}'"), "url: the template does not make an address")
}

// Where a receiver is not to act, nothing that leaves lets it; where it wants pages plain, they are.
func TestReceiversWithoutLinks(t *testing.T) {
	f := func(settings string, subject bool) {
		t.Helper()
		s := newSink(t, nil)
		p := runPager(t, Options{
			DB: openDB(t, t.TempDir()), Config: oneSink(s.URL, ""), Receivers: receiversFile(t, t.TempDir(), "receivers: {hook: {"+settings+"}}"), ExternalURL: "https://b.example/",
		})
		p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
		notes := s.next(t).Alerts[0].Annotations
		if notes[receivers.PageAckURL] != "" || notes[receivers.PagePictureURL] != "" || (notes[receivers.PageSubject] != "") != subject {
			t.Errorf("%s: %v", settings, notes)
		}
	}
	f("links: false", true)
	f("plain: true", false)
}

// A receivers.yml that a reload finds broken leaves the old one in force.
func TestABrokenReceiversFileChangesNothing(t *testing.T) {
	address, got := gatewaySink(t, nil)
	p := openOwn(t, "receivers: {oncall: {http: [{url: '"+address+"/old'}]}}")
	for _, broken := range []string{"receivers: {oncall: {htp: []}}", "receivers: {other: {links: false}}"} {
		if err := os.WriteFile(p.ownFile, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.Reload([]byte(recordOnly)); err == nil {
			t.Errorf("%s was taken", broken)
		}
	}
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	if r := nextRequest(t, got); r.path != "/old" {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(p.ownFile, []byte("receivers: {oncall: {http: [{url: '"+address+"/new'}]}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Reload([]byte(recordOnly)); err != nil {
		t.Fatal(err)
	}
	p.Deliver([]alert.Transition{alerttest.Fire("b2", time.Now())})
	if r := nextRequest(t, got); r.path != "/new" {
		t.Errorf("%+v", r)
	}
}

// post gives alerts to the API as another program does.
func post(t testing.TB, p *Pager, alerts string) {
	t.Helper()
	<-p.Running()
	r := httptest.NewRequest(http.MethodPost, "/api/v2/alerts", strings.NewReader(alerts))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if p.Handler().ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Fatalf("post alerts: %d %s", w.Code, w.Body)
	}
}

// Alerts that nobody wrote a summary for page with the labels that tell them apart, in the subject and in the text.
func TestAnAlertWithoutASummaryHasWords(t *testing.T) {
	t.Parallel()
	f := func(alerts, wantSubject string, wantText ...string) {
		t.Helper()
		address, got := gatewaySink(t, nil)
		wait := fmt.Sprintf("group_wait: %ds", strings.Count(alerts, "labels")-1) // one post is one page
		p := openOwnRouted(t, strings.Replace(recordOnly, "group_wait: 0s", wait, 1), `
receivers:
  oncall:
    ntfy: [{url: '`+address+`', topic: oncall, message: '{{ template "ntfy.default.message" . }}~{{ template "page.text" . }}'}]
`)
		post(t, p, alerts)
		var m receivers.NtfyMessage
		if err := json.Unmarshal([]byte(nextRequest(t, got).body), &m); err != nil {
			t.Fatal(err)
		}
		if subject, _, _ := strings.Cut(m.Title, " since "); subject != wantSubject {
			t.Errorf("subject %q, want %q", subject, wantSubject)
		}
		if strings.ContainsAny(m.Title, "\r\n") {
			t.Errorf("title %q has several lines", m.Title)
		}
		short, long, _ := strings.Cut(m.Message, "~")
		for _, want := range wantText {
			if !strings.Contains(short, want) || !strings.Contains(long, want) {
				t.Errorf("no %q in the texts %q and %q", want, short, long)
			}
		}
	}
	const web1 = `{"alertname":"InstanceDown","instance":"web-1:9100","job":"node","severity":"critical"}`
	f(`[{"labels":`+web1+`}]`, "InstanceDown: instance web-1:9100, job node", "instance: web-1:9100", "severity: critical")
	f(`[{"labels":`+web1+`,"annotations":{"message":"web-1 is gone"}}]`, "web-1 is gone", "web-1 is gone")
	f(`[{"labels":`+web1+`,"annotations":{"description":"web-1\nis gone.\n"}}]`, "web-1 is gone.", "web-1\nis gone.")
	f(`[{"labels":`+web1+`,"annotations":{"summary":"web-1\r\nBcc: all@example.org\n"}}]`, "web-1 Bcc: all@example.org")
	f(`[{"labels":`+web1+`},{"labels":{"alertname":"InstanceDown","instance":"web-2:9100","job":"node"},"annotations":{"description":"web-2 hangs."}}]`,
		"InstanceDown: job node (2 alerts)", "- InstanceDown: instance web-1:9100, job node", "- web-2 hangs.")
	f(`[{"labels":`+web1+`,"annotations":{"summary":"down"}},{"labels":{"alertname":"InstanceDown","instance":"web-2:9100","job":"node"},"annotations":{"summary":"down"}}]`,
		"InstanceDown: job node (2 alerts)", "- down (instance web-1:9100)", "- down (instance web-2:9100)")
	f(`[{"labels":{"team":"two"}}]`, "Alert: team two", "team: two")
	f(`[{"labels":{"team":"two","board":"b1"}}]`, "Alert on b1: team two", "team: two")
	f(`[{"labels":{"team":"two"}},{"labels":{"team":"two","zone":"a"}}]`, "Alert: team two (2 alerts)", "- Alert: team two, zone a")
}

// A header of a gateway is one line, whatever an alert says.
func TestAHeaderIsOneLine(t *testing.T) {
	t.Parallel()
	address, got := gatewaySink(t, nil)
	p := openOwn(t, `
receivers:
  oncall:
    http: [{url: '`+address+`', headers: {Title: '{{ .Subject }}', Text: '{{ .CommonAnnotations.summary }}'}}]
`)
	post(t, p, `[{"labels":{"alertname":"A"},"annotations":{"summary":"one\r\nX-Evil: two\u0000\n"}}]`)
	r := nextRequest(t, got)
	if title := r.header.Get("Title"); !strings.HasPrefix(title, "one X-Evil: two since ") || r.header.Get("Text") != "one X-Evil: two" || r.header.Get("X-Evil") != "" {
		t.Errorf("headers %q", r.header)
	}
}

// An alert of a rule links to the graph of the rule, and so does its end.
func TestAnAlertLinksToItsRulesGraph(t *testing.T) {
	t.Parallel()
	s, engine := newSink(t, nil), rules.NewEngine(rules.Default())
	p := runPager(t, Options{DB: openDB(t, t.TempDir()), Config: oneSink(s.URL, ""), ExternalURL: "https://bramble.example.org/b/", Expression: engine.Expression})
	hot := alerttest.Fire("b1", time.Now())
	hot.Rule = readings.RuleID(t, "SocHot")
	want := "https://bramble.example.org/b/vmui/#/?g0.range_input=1h&g0.expr=" + strings.ReplaceAll(url.QueryEscape(engine.Expression(hot.Rule)), "+", "%20")
	if !strings.Contains(want, "pi_soc_temperature_celsius") {
		t.Fatalf("the expression is %q", engine.Expression(hot.Rule))
	}
	p.Deliver([]alert.Transition{hot})
	if h := s.next(t); len(h.Alerts) != 1 || h.Alerts[0].GeneratorURL != want {
		t.Errorf("%+v, want %s", h.Alerts, want)
	}
	p.Deliver([]alert.Transition{alerttest.Resolve(hot, time.Now())})
	if h := s.next(t); h.Status != "resolved" || h.Alerts[0].GeneratorURL != want {
		t.Errorf("%+v, want %s", h.Alerts, want)
	}
	if got, of := engine.Expression(alert.DomainRulePrefix+hot.Rule), engine.Expression(hot.Rule); got != of {
		t.Errorf("a domain's alert has the expression %q, want that of its rule, %q", got, of)
	}
	if got := engine.Expression("no such rule"); got != "" {
		t.Errorf("an unknown rule has the expression %q", got)
	}
}
