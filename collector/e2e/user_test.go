package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// status asks for a path without following redirects.
func (s *server) status(c *http.Client, method, path string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url()+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Location") + "\n" + string(b)
}

func stayHere(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// TestServeIsClosedToStrangers walks every route without a login.
func TestServeIsClosedToStrangers(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	s.enrol("secret-name", s.nats)
	stranger := &http.Client{CheckRedirect: stayHere}
	for _, path := range []string{"/-/healthy", "/-/ready", "/login"} {
		if code, body := s.status(stranger, "GET", path); code != 200 || strings.Contains(body, "secret-name") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for _, path := range []string{"/", "/board/secret-name", "/board/none", "/incidents", "/vmui/", "/nothing"} {
		if code, body := s.status(stranger, "GET", path); code != 303 || !strings.HasPrefix(body, "/login") || strings.Contains(body, "enrolled") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for _, path := range []string{
		"/api/boards", "/api/boards/secret-name", "/api/incidents", "/api/status", "/api/demo", "/api/openapi.json", "/api/nothing",
		"/api/v1/query?query=up", "/api/v1/query_range?query=up", "/api/v1/series?match[]=up", "/api/v1/labels", "/api/v1/label/board/values",
		"/api/v1/export?match[]=up", "/api/v1/rules", "/api/v1/alerts", "/api/v1/status/tsdb", "/api/v1/admin/tsdb/delete_series",
		"/api/v2/alerts", "/api/v2/silences", "/api/v2/status", "/metrics", "/live",
	} {
		for _, method := range []string{"GET", "POST"} {
			if code, body := s.status(stranger, method, path); code != 401 && (method == "GET" || code != 405 && code != 303) || strings.Contains(body, "secret-name") {
				t.Errorf("%s %s: %d %s", method, path, code, body)
			}
		}
	}
	if code, _ := s.status(stranger, "POST", "/api/incidents/1/ack"); code != 401 {
		t.Errorf("acknowledge: %d", code)
	}
	_, response, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+s.http+"/live", nil)
	if err == nil || response == nil || response.StatusCode != 401 {
		t.Errorf("websocket: %v, %v", response, err)
	}
}

// TestLoginAndTokens goes the way of an operator on the first day.
func TestLoginAndTokens(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	if a := s.try("", "user", "add", "eve"); a.code != 1 || !strings.Contains(a.errs, "password") {
		t.Errorf("user without a password: %+v", a)
	}
	s.do("correct horse battery staple\n", "user", "add", "ada", "--role", "operator")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	ada := &http.Client{Jar: jar, CheckRedirect: stayHere}
	login := func(password string) int {
		t.Helper()
		response, err := ada.PostForm(s.url()+"login", url.Values{"name": {"ada"}, "password": {password}, "next": {"/board/x"}})
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	if code := login("wrong"); code != 401 {
		t.Errorf("wrong password: %d", code)
	}
	if code := login("correct horse battery staple"); code != 303 {
		t.Errorf("right password: %d", code)
	}
	for _, path := range []string{"/", "/api/boards", "/api/v1/query?query=1", "/metrics", "/vmui/"} {
		if code, body := s.status(ada, "GET", path); code != 200 {
			t.Errorf("%s as ada: %d %s", path, code, body)
		}
	}
	s.kill()
	s.start()
	if code, _ := s.status(ada, "GET", "/api/boards"); code != 200 {
		t.Errorf("the login did not survive kill -9: %d", code)
	}
	s.do("another horse battery staple\n", "user", "passwd", "ada")
	if code, _ := s.status(ada, "GET", "/api/boards"); code != 401 {
		t.Errorf("a session outlived its password: %d", code)
	}
	admin := s.bearer
	s.bearer = s.do("", "token", "create", "--role", "viewer", "--name", "grafana")
	if _, err := s.get("api/boards"); err != nil {
		t.Error(err)
	}
	if code, _, err := s.request(http.MethodPost, "api/incidents/1/ack", nil); code != 403 || err != nil {
		t.Errorf("a viewer acknowledges: %d, %v", code, err)
	}
	for line := range strings.Lines(s.do("", "token", "list")) {
		if id, rest, _ := strings.Cut(line, " "); strings.Contains(rest, "grafana") {
			s.do("", "token", "revoke", id)
		}
	}
	if code, _, err := s.request(http.MethodGet, "api/boards", nil); code != 401 || err != nil {
		t.Errorf("a revoked token: %d, %v", code, err)
	}
	s.bearer = admin
	if _, err := s.get("api/boards"); err != nil {
		t.Error(err)
	}
}

// TestEnrolmentRefusals tries tokens that must not work.
func TestEnrolmentRefusals(t *testing.T) {
	t.Parallel()
	s, other := newServer(t, "127.0.0.1"), newServer(t, "127.0.0.1")
	try := func(address, token string) answer {
		t.Helper()
		return command(t, "", "pisensor", "enrol", "nats://"+address, token, "--state-dir", t.TempDir())
	}
	used := s.do("", "board", "add", "pi-1", "--label", "rack=r1")
	if a := try(s.nats, used); a.code != 0 || a.out != "pi-1\n" {
		t.Fatalf("enrol: %+v", a)
	}
	newer := s.do("", "board", "token", "pi-1")
	try(s.nats, used).refusal(t, "withdrawn", "collector board token pi-1")
	try(other.nats, s.do("", "board", "add", "pi-2")).refusal(t, "pin")
	parts := strings.Split(newer, ".")
	parts[2] = strings.Repeat("0", len(parts[2]))
	try(s.nats, strings.Join(parts, ".")).refusal(t, "does not accept this token")
	try(s.nats, "nonsense").refusal(t, "brm1")
	void := s.do("", "board", "add", "pi-3")
	s.do("", "board", "revoke", "pi-3")
	try(s.nats, void).refusal(t, "token")
	rack := s.do("", "board", "token", "--rack", "r7", "--count", "4")
	var names []string
	for _, wish := range []string{"-", "pi-1", "no-board", "r7-02"} { // a name that exists is answered like one that does not
		a := command(t, "", "pisensor", "enrol", "nats://"+s.nats, rack, "--state-dir", t.TempDir(), "--name", wish)
		names = append(names, strings.TrimSpace(a.out+a.errs))
	}
	if want := []string{"r7-01", "r7-02", "r7-03", "r7-04"}; !slices.Equal(names, want) {
		t.Errorf("a rack's token enrolled %q, want %q", names, want)
	}
	try(s.nats, rack).refusal(t, "all of its 4 boards")
	named := s.do("", "board", "token", "--rack", "r7", "--names", "r7-a-01..02")
	for _, name := range []string{"r7-a-02", "r7-a-01"} {
		if a := command(t, "", "pisensor", "enrol", "nats://"+s.nats, named, "--state-dir", t.TempDir(), "--name", name); a.out != name+"\n" {
			t.Errorf("a registered name: %+v", a)
		}
	}
	s.stop(t, patience)
	try(s.nats, used).refusal(t, "no collector answers")
}

// TestABoardIsSetUpAnew installs a board's OS again while its old one still
// runs somewhere: the token brings the new one in and the old one is cut.
func TestABoardIsSetUpAnew(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	token := s.do("", "board", "add", "pi-1")
	enrol := func() (state string) {
		t.Helper()
		state = filepath.Join(t.TempDir(), "state")
		a := command(t, "", "pisensor", "enrol", "nats://"+s.nats, token, "--state-dir", state)
		if a.code != 0 || a.out != "pi-1\n" {
			t.Fatalf("enrol: %+v", a)
		}
		return state
	}
	run := func(state string) *process {
		return launch(t, "pisensor", "run", "--state-dir", state, "--interval", "1s")
	}
	before := run(enrol())
	before.says(t, before.errs, "connected to the collector")
	s.kill()
	s.start()
	now := run(enrol())
	now.says(t, now.errs, "connected to the collector")
	before.says(t, before.errs, "level=ERROR")
	if log := s.says(t, s.errs, "board has another key"); strings.Contains(log, strings.Split(token, ".")[2]) {
		t.Errorf("the log shows the token: %s", log)
	}
	eventually(t, patience, func() error {
		if got := s.metric("bramble_broker_connections"); got != 1 {
			return fmt.Errorf("%v connections, want 1", got)
		}
		return nil
	})
	var view struct {
		Boards []struct {
			Name       string
			KeyChanged int64
		}
	}
	if err := s.json("api/boards", &view); err != nil || len(view.Boards) != 1 || time.Since(time.UnixMilli(view.Boards[0].KeyChanged)) > patience {
		t.Errorf("boards %+v, %v", view, err)
	}
}

// TestRevokeCutsALiveBoard revokes a board whose sensor runs.
func TestRevokeCutsALiveBoard(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	b := s.enrol("pi-1", s.nats, "rack=r1")
	p := launch(t, "pisensor", "run", "--state-dir", b.state, "--interval", "1s")
	connections := func(want float64) func() error {
		return func() error {
			if got := s.metric("bramble_broker_connections"); got != want {
				return errors.New("open connections: " + strings.TrimSpace(p.errs.String()))
			}
			return nil
		}
	}
	eventually(t, patience, connections(1))
	s.do("", "board", "revoke", "pi-1")
	eventually(t, patience, connections(0))
	eventually(t, patience, func() error {
		if !strings.Contains(p.errs.String(), "level=ERROR") && !strings.Contains(p.errs.String(), "level=WARN") {
			return errors.New("the sensor says nothing of it: " + p.errs.String())
		}
		return nil
	})
	if a := s.try("", "board", "revoke", "none"); a.code != 1 {
		t.Errorf("revoke an unknown board: %+v", a)
	}
	token := s.do("", "board", "token", "pi-1")
	command(t, "", "pisensor", "enrol", "nats://"+s.nats, token, "--state-dir", b.state).refusal(t, "stays void", "pisensor enrol --new-key")
	if a := command(t, "", "pisensor", "enrol", "--new-key", "nats://"+s.nats, token, "--state-dir", b.state); a.code != 0 {
		t.Errorf("enrol with a new key: %+v", a)
	}
	if code := p.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d", code)
	}
	p = launch(t, "pisensor", "run", "--state-dir", b.state, "--interval", "1s")
	eventually(t, patience, connections(1))
}

// TestABoardRenewsItsKey renews a key while the collector is away, across kills on both sides, and
// restores the collector's backup from before it.
func TestABoardRenewsItsKey(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	token := s.do("", "board", "add", "pi-1")
	old, state, killed := filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "killed")
	enrol := func(state string, flags ...string) answer {
		t.Helper()
		return command(t, "", "pisensor", append([]string{"enrol", "nats://" + s.nats, token, "--state-dir", state}, flags...)...)
	}
	copyOf := func(from, to string) {
		t.Helper()
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	connects := func(state string) {
		t.Helper()
		p := launch(t, "pisensor", "run", "--state-dir", state, "--interval", "1s")
		p.says(t, p.errs, "connected to the collector")
		if code := p.stop(t, patience); code != 0 {
			t.Errorf("stop: exit %d", code)
		}
	}
	if a := enrol(state); a.code != 0 {
		t.Fatalf("enrol: %+v", a)
	}
	copyOf(state, old)
	backup := s.do("", "backup", "create")
	s.kill()
	enrol(state, "--new-key").refusal(t, "no collector answers")
	s.start()
	connects(state)       // with the old key, which nothing has replaced yet
	copyOf(state, killed) // as it is when the sensor is killed before the answer
	if a := enrol(state); a.code != 0 || a.out != "pi-1\n" {
		t.Errorf("the renewal goes on: %+v", a)
	}
	s.kill()
	s.start()
	connects(state)
	if a := enrol(killed); a.code != 0 {
		t.Errorf("a renewal whose answer was lost: %+v", a)
	}
	connects(killed)
	enrol(old).refusal(t, "stays void", "--new-key")
	rack := s.do("", "board", "token", "--rack", "r1", "--count", "2")
	command(t, "", "pisensor", "enrol", "nats://"+s.nats, rack, "--state-dir", state, "--new-key").refusal(t, "renews no key")
	connects(state) // the refused key has gone
	if code := s.stop(t, patience); code != 0 {
		t.Fatalf("stop: exit %d", code)
	}
	if a := command(t, "", "collector", "backup", "restore", backup, "--aside", "--data-dir", s.dir); a.code != 0 {
		t.Fatalf("restore: %+v", a)
	}
	s.start()
	connects(state)
	enrol(old).refusal(t, "stays void")
}

// TestIPv6 runs the whole chain where there is no IPv4.
func TestIPv6(t *testing.T) {
	t.Parallel()
	if l, err := newListener("[::1]:0"); err != nil {
		t.Skipf("this machine has no IPv6 loopback: %v", err)
	} else {
		l.Close()
	}
	s := newServer(t, "::1")
	b, r := s.enrol("pi-1", s.nats), invent(t, "six", 50, uneven)
	s.replayed(b, r)
}
