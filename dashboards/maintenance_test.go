package dashboards

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/maintenance"
)

func TestMaintenanceAPI(t *testing.T) {
	var asked []string
	o := parts{
		Auth: newTokens(),
		Off: func() alert.OffReport {
			return alert.OffReport{Boards: 3, Items: []alert.Off{{Kind: alert.OffSilence, What: "3 boards", Why: "silenced"}}}
		},
		Maintenance: &maintenances{
			List: func(context.Context) ([]maintenance.Maintenance, error) {
				return []maintenance.Maintenance{{Number: 4, State: maintenance.Running}}, nil
			},
			Start: func(_ context.Context, q maintenance.Request) (maintenance.Maintenance, error) {
				if q.Confirm == 0 {
					return maintenance.Maintenance{}, fmt.Errorf("%w: %w", maintenance.ErrBad, &maintenance.ConfirmError{Boards: 48, Of: 96})
				}
				asked = append(asked, fmt.Sprint(q.Matchers, q.For, q.Grace, q.By, q.From.UTC().Format(time.RFC3339)))
				return maintenance.Maintenance{Number: 5}, nil
			},
			End: func(_ context.Context, number int64, who string) (maintenance.Maintenance, error) {
				if number != 4 {
					return maintenance.Maintenance{}, maintenance.ErrNone
				}
				asked = append(asked, who)
				return maintenance.Maintenance{Number: number}, nil
			},
		},
	}
	_, web := start(t, o)
	f := func(method, path, token, body string, code int, want string) {
		t.Helper()
		resp, answer := (call{method: method, path: path, token: token, body: body}).do(t, web.URL)
		if resp.StatusCode != code || !strings.Contains(answer, want) {
			t.Errorf("%s %s: %d %s, want %d %s", path, body, resp.StatusCode, answer, code, want)
		}
	}
	const path = "/api/oncall/maintenance"
	f("GET", "/api/oncall/off", "viewer-token", "", 200, `"boards":3`)
	f("GET", path, "viewer-token", "", 200, `"number":4`)
	f("POST", path, "viewer-token", `{}`, 403, "operator")
	f("POST", path, "operator-token", `{"matchers":["rack=\"r7\""],"for":"2h"}`, 409, `"boards":48`)
	f("POST", path, "operator-token", `{"matchers":["rack=\"r7\""],"for":"2h","grace":"5m","from":"2026-11-24T22:00:00+01:00","confirm":48}`, 200, `"number":5`)
	for body, want := range map[string]string{
		``: "decode maintenance", `{"for":"soon"}`: "for: \\\"soon\\\"", `{"for":"1h","grace":"x"}`: "grace", `{"for":"1h","from":"today"}`: "from", `{"until":1}`: "unknown field",
	} {
		f("POST", path, "operator-token", body, 400, want)
	}
	f("POST", path+"/9/end", "operator-token", "", 404, "no such maintenance")
	f("POST", path+"/x/end", "operator-token", "", 404, "no maintenance x")
	f("POST", path+"/4/end", "operator-token", "", 200, `"number":4`)
	if got := strings.Join(asked, " | "); got != `[rack="r7"] 2h0m0s 5m0smira2026-11-24T21:00:00Z | mira` {
		t.Errorf("asked for %s", got)
	}
}

// TestOffPage: the header says what is off, and a maintenance over 5 % of the fleet takes a second press.
func TestOffPage(t *testing.T) {
	started := make(chan maintenance.Request, 1)
	o := parts{
		Open: true,
		Off: func() alert.OffReport {
			now := time.Now().UnixMilli()
			return alert.OffReport{Now: now, Boards: 2, Items: []alert.Off{
				{Kind: alert.OffMaintenance, What: `2 boards, rack="r1"`, Why: "maintenance 4, “new PSU”", By: "mira", Until: now + 3600_000, Boards: []string{"r1-01", "r1-02"}},
				{Kind: alert.OffReceiver, What: "whatever goes to receiver sms", Why: "webhook takes no page: 503"},
			}, FiringCount: 3, Firing: []alert.Suppressed{{
				Labels: map[string]string{"alertname": "SocHot", "board": "r1-02"}, FiredAt: now,
				Suppressions: []alert.Suppression{{Kind: alert.ByMaintenance, By: "mira", ID: "4", Until: now + 3600_000}, {Kind: alert.ByInhibition, By: "rack r1 has no power"}},
			}}}
		},
		Maintenance: &maintenances{
			List: func(context.Context) ([]maintenance.Maintenance, error) {
				now := time.Now().UnixMilli()
				return []maintenance.Maintenance{
					{Number: 4, State: maintenance.Running, Matchers: []string{`rack="r1"`}, StartsAt: now, EndsAt: now + 3600_000, By: "mira", Boards: 2, Comment: "new PSU"},
					{Number: 3, State: maintenance.Over, Matchers: []string{`switch="r1-a"`}, StartsAt: now - 7200_000, EndsAt: now - 3600_000, By: "ada", NotBack: []string{"r1-01"}},
				}, nil
			},
			Start: func(_ context.Context, q maintenance.Request) (maintenance.Maintenance, error) {
				if q.Confirm != 2 {
					return maintenance.Maintenance{}, fmt.Errorf("%w: %w", maintenance.ErrBad, &maintenance.ConfirmError{Boards: 2, Of: 2})
				}
				started <- q
				return maintenance.Maintenance{Number: 5, EndsAt: time.Now().Add(time.Hour).UnixMilli()}, nil
			},
		},
	}
	_, web := start(t, o)
	b := openTab(t, web.URL)
	b.open("/")
	b.text("#off", "2 boards, 1 receiver off")
	b.open("/off")
	b.until(`document.querySelectorAll("#off-list li").length === 2 && document.querySelectorAll("#maintenance-list li").length === 2`, `document.querySelector("main").textContent`)
	b.text("#firing-list li", "SocHot on r1-02maintenance 4 by mira until ")
	b.text("#firing-list li", "; “rack r1 has no power” inhibits it")
	b.text("#firing-more", "2 more")
	b.script(`document.querySelector("#maintenance-form [name=value]").value = "r1"; document.querySelector("#maintenance-form [name=for]").value = "1h"; document.getElementById("maintenance-go").click()`)
	b.text("#maintenance-go", "Yes, page nobody for 2 boards")
	b.script(`document.getElementById("maintenance-go").click()`)
	if q := <-started; len(q.Matchers) != 1 || q.Matchers[0] != `rack="r1"` || q.For != time.Hour || q.By != "demo" {
		t.Errorf("started %+v", q)
	}
	b.text("#maintenance-said", "Maintenance 5 until")
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.faults { // the question is an answer of 409
		if !strings.Contains(f, "409") {
			t.Error(f)
		}
	}
}

// script runs JavaScript on the page.
func (b *tab) script(js string) {
	b.Helper()
	b.until("(()=>{"+js+"; return true})()", "0")
}

func FuzzMaintenance(f *testing.F) {
	f.Add([]byte(`{"matchers":["rack=\"r7\""],"for":"2h","grace":"5m","from":"2026-11-24T22:00:00Z","comment":"x","confirm":48}`))
	f.Add([]byte(`{"for":"999999999y"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := decodeMaintenance(b); err == nil && q.For == 0 {
			t.Errorf("%s: no time and no error", b)
		}
	})
}
