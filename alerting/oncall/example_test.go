package oncall_test

import (
	"fmt"
	"time"

	"bramble/alerting/oncall"
)

// Two people take weekly turns; a policy pages the one on call, and ten minutes later both.
func Example() {
	config, err := oncall.Parse([]byte(`
zone: Europe/Berlin
people:
  - name: ada
    channels: [{receiver: ada-ntfy}]
  - name: jonas
    channels: [{receiver: jonas-ntfy}]
rotas:
  - name: first
    layers:
      - {people: [ada, jonas], start: 2026-01-05, handover: "09:00", rotate: weekly}
policies:
  - name: default
    receivers: [oncall]
    steps:
      - {notify: [first], wait: 10m}
      - {notify: [ada, jonas]}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	at := time.Date(2026, 1, 12, 8, 30, 0, 0, time.UTC) // 09:30 in Berlin, half an hour after the handover
	policy := config.PolicyOf("oncall")
	for i, step := range policy.Steps {
		people, gaps := config.Who(step, at)
		fmt.Println("step", i+1, people, gaps)
	}
	// Output:
	// step 1 [jonas] []
	// step 2 [ada jonas] []
}

// A fault is named with its place and the right form.
func ExampleParse() {
	_, err := oncall.Parse([]byte("zone: Europe/Atlantis\n"))
	fmt.Println(err)
	// Output: 1: zone: "Europe/Atlantis" is no IANA time zone such as Europe/Berlin
}
