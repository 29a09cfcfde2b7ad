package dashboards

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/maintenance"
	"bramble/alerting/oncall"
	"bramble/dashboards/live"
)

// The pages' JavaScript is checked against web/types/server.d.ts, so that file must match the answers.
func TestTypesOfThePagesAreThoseOfTheServer(t *testing.T) {
	text, err := os.ReadFile("web/types/server.d.ts")
	if err != nil {
		t.Fatal(err)
	}
	described := interfaces(string(text))
	for _, v := range []any{
		live.Latest{}, boardAnswer{}, Span{}, Rollups{}, Incident{}, incident.Page{}, incident.Event{}, incidentAnswer{},
		OnCall{}, OnCallPerson{}, OnCallChannel{}, Rota{}, Shift{}, oncall.Override{}, Policy{}, PolicyStep{},
		alert.OffReport{}, alert.Off{}, alert.Suppressed{}, alert.Suppression{}, maintenance.Maintenance{}, Heartbeat{}, Beats{}, alert.PageTest{},
		backupsAnswer{}, Backup{}, faultAnswer{}, receivedAnswer{},
		ownBoardAnswer{}, OwnAlert{}, OwnBook{}, OwnThreshold{}, OwnContact{}, OwnKind{},
	} {
		of := reflect.TypeOf(v)
		name := strings.ToUpper(of.Name()[:1]) + of.Name()[1:]
		sent := map[string]bool{}
		sentFields(of, sent)
		if got := described[name]; !maps.Equal(got, sent) {
			t.Errorf("interface %s has the fields %v,\n%s sends %v (optional: true)", name, got, of, sent)
		}
	}
}

var (
	interfaceText = regexp.MustCompile(`(?m)^export interface (\w+)(?: extends (\w+))? \{\n((?:  .*\n)*)\}`)
	fieldText     = regexp.MustCompile(`(?m)^  (\w+)(\??): `)
)

// interfaces are the fields of the interfaces of a declaration file, with whether they are optional.
func interfaces(text string) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, m := range interfaceText.FindAllStringSubmatch(text, -1) {
		fields := maps.Clone(out[m[2]])
		if fields == nil {
			fields = map[string]bool{}
		}
		for _, f := range fieldText.FindAllStringSubmatch(m[3], -1) {
			fields[f[1]] = f[2] != ""
		}
		out[m[1]] = fields
	}
	return out
}

// sentFields collects the names that encoding/json writes, with whether it leaves out a zero value.
func sentFields(of reflect.Type, into map[string]bool) {
	for f := range of.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			sentFields(f.Type, into)
		case f.IsExported() && name != "-":
			into[name] = slices.Contains(strings.Split(options, ","), "omitempty")
		}
	}
}
