package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bothKinds holds each rule twice: decided on arrival, and from the store.
const bothKinds = `groups:
  - name: arrival
    rules:
      - {alert: ArrivalFor, expr: pi_soc_temperature_celsius >= 80, for: 10s}
      - {alert: ArrivalKeep, expr: pi_soc_temperature_celsius >= 80, keep_firing_for: 5m}
  - name: store
    interval: 1s
    rules:
      - {record: 'board:temperature:max', expr: max by (board) (pi_soc_temperature_celsius)}
      - {alert: Recorded, expr: 'board:temperature:max >= 80'}
      - {alert: StoreFor, expr: 'max_over_time(pi_soc_temperature_celsius[3s]) >= 80', for: 10s}
      - {alert: StoreKeep, expr: 'max_over_time(pi_soc_temperature_celsius[3s]) >= 80', keep_firing_for: 5m}
`

// shown is an alert of /api/v1/alerts.
type shown struct {
	Labels          map[string]string
	Annotations     map[string]string
	State           string
	ActiveAt        time.Time
	KeepFiringSince *time.Time
}

// alerts returns the active alerts, by name.
func (s *server) alerts() (map[string]shown, error) {
	var a struct{ Data struct{ Alerts []shown } }
	if err := s.json("api/v1/alerts", &a); err != nil {
		return nil, err
	}
	all := map[string]shown{}
	for _, x := range a.Data.Alerts {
		all[x.Labels["alertname"]] = x
	}
	return all, nil
}

// shows waits until ok holds for each of the alerts and returns them.
func (s *server) alertsWhere(what string, ok func(shown) bool, names ...string) map[string]shown {
	s.t.Helper()
	var all map[string]shown
	eventually(s.t, patience, func() (err error) {
		if all, err = s.alerts(); err != nil {
			return err
		}
		for _, n := range names {
			if !ok(all[n]) {
				return fmt.Errorf("%s is not %s: %+v", n, what, all)
			}
		}
		return nil
	})
	return all
}

// evaluated waits until a group has been evaluated once more. The result of an evaluation is shown before it is on disk, and on
// disk before the next one begins.
func (s *server) evaluated(group string) {
	s.t.Helper()
	last := func() (at time.Time, err error) {
		var a struct {
			Data struct {
				Groups []struct {
					Name           string
					LastEvaluation time.Time
				}
			}
		}
		if err := s.json("api/v1/rules", &a); err != nil {
			return at, err
		}
		for _, g := range a.Data.Groups {
			if g.Name == group {
				return g.LastEvaluation, nil
			}
		}
		return at, fmt.Errorf("no group %s: %+v", group, a)
	}
	before, err := last()
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, patience, func() error {
		now, err := last()
		if err == nil && !now.After(before) {
			err = fmt.Errorf("group %s is not evaluated after %v", group, before)
		}
		return err
	})
}

// ruled starts a server with a rule file, which it returns.
func ruled(t testing.TB, rules string) (*server, string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.yml")
	for name, text := range map[string]string{file: rules, filepath.Join(dir, "collector.yml"): "rules: [a.yml]\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return newServer(t, "127.0.0.1", "--config", filepath.Join(dir, "collector.yml")), file
}

// TestStatesSurviveKill kills the collector while alerts are pending, and while they are kept firing, in both kinds of
// rules: they go on where they were.
func TestStatesSurviveKill(t *testing.T) {
	t.Parallel()
	s, _ := ruled(t, bothKinds)
	b := s.enrol("pi-1", s.nats)
	wave := func(temp, rows int) *process {
		t.Helper()
		var csv strings.Builder
		csv.WriteString("t_s,temp_c\n")
		for i := range rows {
			fmt.Fprintf(&csv, "%d,%d\n", i, temp)
		}
		return b.replay(t, understand(t, fmt.Sprint(temp), csv.String()), "--speed", "1")
	}
	warm := wave(85, 600) // ended when its alerts fire
	pending := s.alertsWhere("pending", func(a shown) bool { return a.State == "pending" }, "ArrivalFor", "StoreFor")
	s.evaluated("store") // the result of the one before is on disk
	s.kill()
	s.start()
	fires := func(a shown) bool { return a.State == "firing" }
	firing := s.alertsWhere("firing", fires, "ArrivalFor", "StoreFor", "ArrivalKeep", "StoreKeep", "Recorded")
	for name, was := range pending {
		if now := firing[name]; !now.ActiveAt.Equal(was.ActiveAt) {
			t.Errorf("%s: active since %v, before the kill %v", name, now.ActiveAt, was.ActiveAt)
		}
	}
	warm.kill()
	cold := wave(60, 8)
	kept := s.alertsWhere("kept firing", func(a shown) bool { return a.State == "firing" && a.KeepFiringSince != nil }, "ArrivalKeep", "StoreKeep")
	s.evaluated("store")
	s.kill()
	s.start()
	after := s.alertsWhere("firing", fires, "ArrivalKeep", "StoreKeep")
	for _, name := range []string{"ArrivalKeep", "StoreKeep"} {
		if was, now := kept[name].KeepFiringSince, after[name].KeepFiringSince; now == nil || !now.Equal(*was) {
			t.Errorf("%s: kept firing since %v, before the kill %v", name, now, was)
		}
	}
	if _, ok := after["ArrivalFor"]; ok {
		t.Error("ArrivalFor fires again")
	}
	if code := cold.exit(t, patience); code != 0 {
		t.Errorf("replay: exit %d: %s", code, cold.errs)
	}
}

// TestReloadRules changes rules under an alert that fires, by HTTP and by SIGHUP. A broken file changes nothing and is
// told with file, line and reason.
func TestReloadRules(t *testing.T) {
	t.Parallel()
	const head = "groups:\n- name: g\n  rules:\n"
	const one = "  - {alert: One, expr: pi_soc_temperature_celsius > 50, annotations: {link: '{{ $externalURL }}', value: '{{ $value }}'}}\n"
	const two = "  - {alert: Two, expr: pi_soc_temperature_celsius > 40}\n"
	s, file := ruled(t, head+one)
	reload := func(text string) (int, string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, body, err := s.request(http.MethodPost, "-/reload", nil)
		if err != nil {
			t.Fatal(err)
		}
		return code, string(body)
	}
	b := s.enrol("pi-1", s.nats)
	b.replay(t, understand(t, "warm", "t_s,temp_c\n0,60\n1,61\n2,62\n"))
	fires := func(a shown) bool { return a.State == "firing" }
	first := s.alertsWhere("firing", fires, "One")["One"]
	if first.Annotations["link"] != s.url() {
		t.Errorf("link %q, want %q", first.Annotations["link"], s.url())
	}
	s.alertsWhere("at its latest value", func(a shown) bool { return a.Annotations["value"] == "62" }, "One")

	code, body := reload(head + one + "  - {alert: Two, expr: 'pi_soc_temperature_celsius >'}\n")
	if code != http.StatusUnprocessableEntity || !strings.Contains(body, file+`:5: rule \"Two\": expr at line 5`) {
		t.Errorf("a broken file: %d %s", code, body)
	}
	if now := s.alertsWhere("firing", fires, "One")["One"]; !now.ActiveAt.Equal(first.ActiveAt) {
		t.Errorf("after a broken file: %+v, before %+v", now, first)
	}
	if code, body := reload(head + one + two); code != http.StatusOK {
		t.Errorf("a good file: %d %s", code, body)
	}
	b.replay(t, understand(t, "warm again", "t_s,temp_c\n0,60\n1,61\n"))
	if now := s.alertsWhere("firing", fires, "One", "Two")["One"]; !now.ActiveAt.Equal(first.ActiveAt) {
		t.Errorf("after a reload: %+v, before %+v", now, first)
	}
	if err := os.WriteFile(file, []byte(head+two), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	all := s.alertsWhere("gone", func(a shown) bool { return a.State == "" }, "One")
	if !fires(all["Two"]) {
		t.Errorf("after SIGHUP: %+v", all)
	}
	if err := os.WriteFile(file, []byte(head+"  - {alert: Two, for: soon, expr: a > 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.says(t, s.errs, "reload failed: of each file that is wrong, the old one stays in force")
	s.alertsWhere("firing", fires, "Two")
}

// TestRehearseRules rehearses rules on a board's last two hours: of the collector that runs, and of
// its data directory when it has stopped.
func TestRehearseRules(t *testing.T) {
	t.Parallel()
	s, file := ruled(t, bothKinds)
	var csv strings.Builder
	csv.WriteString("t_s,temp_c\n")
	for i := range 720 { // hot from 40 min to 50 min, from 60 min to 61 min, and at 70 min
		temp := 60
		if minute := i / 6; minute >= 40 && minute < 50 || minute == 60 || i == 420 {
			temp = 85
		}
		fmt.Fprintf(&csv, "%d,%d\n", 10*i, temp)
	}
	if code := s.enrol("pi-1", s.nats, "rack=r1").replay(t, understand(t, "two hours", csv.String())).exit(t, patience); code != 0 {
		t.Fatalf("replay: exit %d", code)
	}
	rules := filepath.Join(filepath.Dir(file), "tried.yml")
	const text = `groups:
- name: g
  rules:
  - {alert: Hot, expr: pi_soc_temperature_celsius >= 80}
  - {alert: HotForLong, expr: pi_soc_temperature_celsius >= 80, for: 5m}
  - {alert: Tried, expr: 'avg_over_time(pi_soc_temperature_celsius[1m]) >= 80', labels: {shadow: "true"}}
`
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		var got struct {
			Pages int
			Rules []struct {
				Name            string
				Pages, Recorded int
			}
			Subjects []struct{ Subject string }
		}
		if err := json.Unmarshal([]byte(s.do("", "rules", "rehearse", rules, "--since", "3h", "--json")), &got); err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(got); text != "{4 [{Hot 3 0} {HotForLong 1 0} {Tried 0 2}] [{pi-1}]}" {
			t.Errorf("%s: %s", when, text)
		}
		if out := s.do("", "rules", "rehearse", "--since=3h", "--zone", "Europe/Berlin", rules); !strings.Contains(out, ": 4 pages, ") || !strings.Contains(out, "(Europe/Berlin)") ||
			!strings.Contains(out, "Tried (shadow)") {
			t.Errorf("%s: %s", when, out)
		}
	}
	check("while it runs")
	for _, bad := range [][]string{{"--since", "soon"}, {"--since=-1h"}, {"--zone", "Mars/Crater"}} {
		if a := s.try("", append([]string{"rules", "rehearse", rules}, bad...)...); a.code != 1 || !strings.Contains(a.errs, bad[0][:6]) {
			t.Errorf("%v: exit %d: %s", bad, a.code, a.errs)
		}
	}
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}
	check("when it has stopped")
}

// TestShadow: a rule that is tried out has incidents and sends nothing.
func TestShadow(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	s := alarmed(t, k)
	const shadow = "      - {alert: Tried, expr: pi_soc_temperature_celsius >= 70, labels: {shadow: \"true\"}}\n"
	config := s.args[1]
	if err := os.WriteFile(filepath.Join(filepath.Dir(config), "rules.yml"), []byte(crossingRules+shadow), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, body, err := s.request(http.MethodPost, "-/reload", nil); code != http.StatusOK || err != nil {
		t.Fatalf("reload: %d %s %v", code, body, err)
	}
	warm, hotter := s.enrol("pi-1", s.nats), s.enrol("pi-2", s.nats)
	warm.replay(t, understand(t, "warm", "t_s,temp_c\n0,60\n1,75\n2,75\n"))
	hotter.replay(t, understand(t, "hot", hot))
	eventually(t, patience, func() error {
		var list struct {
			Incidents []struct {
				Title, State        string
				Shadow, PagesNobody bool
				Boards              []string
				Pages               []any
			}
		}
		if err := s.json("api/incidents", &list); err != nil {
			return err
		}
		shadows, paged := 0, 0
		for _, in := range list.Incidents {
			switch {
			case in.Shadow && in.PagesNobody && len(in.Pages) == 0 && in.State == "firing":
				shadows++
			case !in.Shadow && len(in.Pages) > 0:
				paged++
			}
		}
		if shadows != 2 || paged != 1 {
			return fmt.Errorf("%d in the shadow, %d paged: %+v", shadows, paged, list)
		}
		return nil
	})
	eventually(t, patience, func() error { // a page stands with its incident before its receiver has it
		if told := k.told(); told["pi-2"] == 0 {
			return fmt.Errorf("told %v", told)
		}
		return nil
	})
	if told := k.told(); told["pi-1"] != 0 {
		t.Errorf("told %v", told)
	}
}

// TestStartWithBrokenRules: a collector that is started while a rule file is broken goes on with the rules it had.
func TestStartWithBrokenRules(t *testing.T) {
	t.Parallel()
	s, file := ruled(t, bothKinds)
	if err := os.WriteFile(file, []byte("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'a >'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.kill()
	s.start()
	rules, err := s.get("api/v1/rules")
	if err != nil || !strings.Contains(string(rules), "ArrivalKeep") || !strings.Contains(string(rules), "StoreFor") {
		t.Errorf("rules %s, %v", rules, err)
	}
	s.says(t, s.errs, file+`:4: rule \"A\": expr`)
	if broken := s.metric("bramble_rules_broken"); broken != 1 {
		t.Errorf("bramble_rules_broken %v, want 1", broken)
	}
	if err := os.WriteFile(file, []byte(bothKinds), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, body, err := s.request(http.MethodPost, "-/reload", nil); code != http.StatusOK || err != nil {
		t.Errorf("reload: %d %s %v", code, body, err)
	}
	if broken := s.metric("bramble_rules_broken"); broken != 0 {
		t.Errorf("bramble_rules_broken %v, want 0", broken)
	}
}
