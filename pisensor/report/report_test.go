package report

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var ignorePrivate = cmp.Options{cmpopts.IgnoreUnexported(Report{}), cmpopts.EquateEmpty()}

// random fills r with a report as a board could send it.
func randomReport(rng *rand.Rand) *Report {
	r := &Report{
		Session: rng.Uint32(), Anchor: 1_700_000_000_000 + rng.Int64N(1e12), Due: rng.Int64N(60_000),
		First: rng.Uint64N(1 << 40), Goodbye: rng.IntN(10) == 0, AckLater: rng.IntN(2) == 0,
	}
	at := rng.Int64N(1e9)
	for range 1 + rng.IntN(100) {
		at += 1 + rng.Int64N(20_000)
		r.Elapsed = append(r.Elapsed, at)
	}
	for m := range definitions {
		def := Define(Metric(m))
		if def == nil || rng.IntN(3) == 0 {
			continue
		}
		s := Series{Metric: Metric(m)}
		if def.InstanceLabel != "" {
			s.Instance = []string{"eth0", "wlan0"}[rng.IntN(2)]
		}
		values, constant := r.Column(s), rng.IntN(3) == 0
		v := def.Min + rng.Int64N(def.Max-def.Min+1)
		for i := range values {
			if rng.IntN(4) == 0 {
				continue
			}
			if !constant {
				v = def.Min + rng.Int64N(def.Max-def.Min+1)
			}
			values[i] = v
		}
	}
	if rng.IntN(4) == 0 {
		r.Info = []Attribute{{AttributeModel, "Raspberry Pi 3 Model B Rev 1.2"}, {AttributeKernel, "6.12.25-v8+"}}
	}
	return r
}

// TestADevicesNameTravelsOnce also holds the first column to a name of its own.
func TestADevicesNameTravelsOnce(t *testing.T) {
	r := &Report{Elapsed: []int64{1}}
	for _, m := range []Metric{NetworkReceive, NetworkTransmit, NetworkErrors} {
		r.Column(Series{m, "enx0123456789ab"})[0] = 7
	}
	b := r.Append(nil)
	name := []byte("enx0123456789ab")
	if n := bytes.Count(b, name); n != 1 {
		t.Errorf("the name stands %d times in %q", n, b)
	}
	var got Report
	if err := got.Decode(b); err != nil || got.Columns[2].Series != (Series{NetworkErrors, "enx0123456789ab"}) {
		t.Errorf("%v, %+v", err, got.Columns)
	}
	nameless := bytes.Replace(b, append([]byte{byte(len(name))}, name...), []byte{0}, 1)
	if err := got.Decode(nameless); !errors.Is(err, ErrMalformed) {
		t.Errorf("no name at all: %v", err)
	}
}

func TestDecodeReturnsTheEncodedReport(t *testing.T) {
	var got Report // one for all, as ingest uses it
	for seed := range uint64(150) {
		want := randomReport(rand.New(rand.NewPCG(seed, 0)))
		if err := got.Decode(want.Append(nil)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if d := cmp.Diff(want, &got, ignorePrivate); d != "" {
			t.Fatalf("seed %d (-sent +received):\n%s", seed, d)
		}
	}
}

func TestFirstReleaseDecodesForEver(t *testing.T) {
	want := &Report{
		Session: 0x12345678, Anchor: 1712345678848, Due: 20000, First: 7, Elapsed: []int64{10000, 20000, 30000},
		Columns: []Column{
			{Series{SOCTemperature, ""}, []int64{46656, 47194, 47194}},
			{Series{Throttled, ""}, []int64{0, 0, 0}},
			{Series{NetworkReceive, "eth0"}, []int64{100, Missing, 105}},
		},
		Info: []Attribute{{AttributeKernel, "6.6.1"}},
	}
	encoded := want.Append(nil)
	if d := cmp.Diff(goldenReport, encoded); d != "" {
		t.Errorf("a report of the first release is encoded anew (-first +now):\n%s", d)
	}
	var got Report
	if err := got.Decode(goldenReport); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, &got, ignorePrivate); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestUnknownMetricsAreSkippedAndCounted(t *testing.T) {
	r := Report{Elapsed: []int64{1, 2, 3}}
	copy(r.Column(Series{SOCTemperature, ""}), []int64{50000, 50538, Missing})
	copy(r.Column(Series{999, "future"}), []int64{1, Missing, 3})
	copy(r.Column(Series{Load1, ""}), []int64{5, 6, 7})
	var got Report
	if err := got.Decode(r.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if got.Unknown != 2 || len(got.Columns) != 2 || got.Columns[1].Values[2] != 7 {
		t.Errorf("unknown %d, columns %v", got.Unknown, got.Columns)
	}
}

func TestImplausibleReadingsAreDroppedAndCounted(t *testing.T) {
	r := Report{Elapsed: []int64{1, 2}}
	copy(r.Column(Series{SOCTemperature, ""}), []int64{4_000_000, 50538})
	var got Report
	if err := got.Decode(r.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if got.Implausible != 1 || got.Columns[0].Values[0] != Missing || got.Columns[0].Values[1] != 50538 {
		t.Errorf("implausible %d, values %v", got.Implausible, got.Columns[0].Values)
	}
}

func TestDecodeRefuses(t *testing.T) {
	valid := randomReport(rand.New(rand.NewPCG(1, 1))).Append(nil)
	f := func(name string, b []byte) {
		t.Helper()
		var r Report
		r.Column(Series{})
		if err := r.Decode(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v, want ErrMalformed", name, err)
		}
		if r.Ticks() != 0 || len(r.Columns) != 0 {
			t.Errorf("%s: the report is not empty after an error", name)
		}
	}
	f("nothing", nil)
	f("another version", append([]byte{0x21}, valid[1:]...))
	f("a hello", Hello{Session: 1}.Append(nil))
	f("unknown flags", append([]byte{valid[0], 0x80}, valid[2:]...))
	f("bytes behind the end", append(valid[:len(valid):len(valid)], 0))
	f("too large", make([]byte, MaxSize+1))
	f("text", []byte("hello, world, this is not a report"))
	for n := range len(valid) {
		f("cut short", valid[:n])
	}
	f("steps that go backwards", (&Report{Elapsed: []int64{5, 9, 8}}).Append(nil))
	f("the same time twice", (&Report{Elapsed: []int64{5, 5}}).Append(nil))
	twice := Column{Series{Load1, ""}, []int64{1}}
	f("a series twice", (&Report{Elapsed: []int64{5}, Columns: []Column{twice, twice}}).Append(nil))
	f("a device where none belongs", (&Report{Elapsed: []int64{5}, Columns: []Column{{Series{Load1, "eth0"}, []int64{1}}}}).Append(nil))
	f("no device where one belongs", (&Report{Elapsed: []int64{5}, Columns: []Column{{Series{NetworkReceive, ""}, []int64{1}}}}).Append(nil))
	f("a device that is no name", (&Report{Elapsed: []int64{5}, Columns: []Column{{Series{NetworkReceive, "a\"b"}, []int64{1}}}}).Append(nil))
	f("attributes with control characters", (&Report{Info: []Attribute{{AttributeModel, "a\nb"}}}).Append(nil))
	f("an attribute twice", (&Report{Info: []Attribute{{AttributeModel, "a"}, {AttributeModel, "b"}}}).Append(nil))
}

func TestBaseUnits(t *testing.T) {
	f := func(m Metric, wire int64, want float64) {
		t.Helper()
		if got := Define(m).Base(wire); got != want {
			t.Errorf("metric %d: %d is %v, want %v", m, wire, got, want)
		}
	}
	f(SOCTemperature, 46698, 46.698)
	f(ClockRequested, 1_200_000, 1.2e9)
	f(ClockMeasured, 657, 657e6)
	f(CoreVolts, 13188, 1.3188)
	f(Load1, 53, 0.53)
	f(MemoryAvailable, 2, 2048)
	f(NFSRTT, 1200, 0.0012)
	f(ClockMaximum, 1_800_000, 1.8e9)
	f(UnderVoltage, 1, 1)
}

// TestMetricsAreSeriesOfTheirOwn wants two numbers for one series only where
// that is meant: a board sends one of them.
func TestMetricsAreSeriesOfTheirOwn(t *testing.T) {
	seen := map[[2]string]Metric{}
	note := func(m Metric, name, label string) {
		t.Helper()
		key := [2]string{name, label}
		if before, ok := seen[key]; ok && (before != Throttled || m != UnderVoltage) {
			t.Errorf("metrics %d and %d are both %s %s", before, m, name, label)
		}
		seen[key] = m
	}
	m := Metric(1)
	for ; Define(m) != nil; m++ {
		d := Define(m)
		for _, reason := range d.Bits {
			note(m, d.Name, reason)
		}
		if d.Bits == nil {
			note(m, d.Name, d.Value)
		}
	}
	if int(m) != len(definitions) {
		t.Errorf("number %d has no definition", m)
	}
}

func TestMessages(t *testing.T) {
	hello := Hello{Session: 7, Nonce: 1 << 50}
	if got, err := DecodeHello(hello.Append(nil)); err != nil || got != hello {
		t.Errorf("hello: %+v, %v", got, err)
	}
	ack := Ack{Session: 7, Time: 1_700_000_000_000, Nonce: 3, Ranges: []Range{{1, 5}, {9, 1}}}
	if got, err := DecodeAck(ack.Append(nil)); err != nil || !cmp.Equal(got, ack) {
		t.Errorf("ack: %+v, %v", got, err)
	}
	control := Control{Lease: 30_000, Watchers: 2, SetLines: true, Lines: []Line{{SOCTemperature, 80_000}}}
	if got, err := DecodeControl(control.Append(nil)); err != nil || !cmp.Equal(got, control) {
		t.Errorf("control: %+v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomReport(rand.New(rand.NewPCG(seed, 0))).Append(nil))
	}
	f.Add(goldenReport)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Report
		if r.Decode(b) != nil {
			return
		}
		if len(r.Columns) > MaxColumns || r.Ticks() > MaxTicks {
			t.Fatalf("%d columns, %d ticks", len(r.Columns), r.Ticks())
		}
		if err := again.Decode(r.Append(nil)); err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		if n := r.Ticks() * len(r.Columns); Cells(b) < n {
			t.Fatalf("%d cells for %d values", Cells(b), n)
		}
		again.Unknown, again.Implausible = r.Unknown, r.Implausible
		if d := cmp.Diff(&r, &again, ignorePrivate); d != "" {
			t.Fatalf("(-decoded +again):\n%s", d)
		}
	})
}

func FuzzMessages(f *testing.F) {
	ack := Ack{Session: 7, Time: 1, Ranges: []Range{{1, 5}}}
	control := Control{Lease: 1, SetLines: true, Lines: []Line{{1, 80_000}}}
	f.Add(ack.Append(nil))
	f.Add(control.Append(nil))
	f.Add(Hello{Session: 7}.Append(nil))
	f.Add([]byte(`{"token":"a","key":"U","name":"b"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := DecodeAck(b); err == nil {
			if again, err := DecodeAck(a.Append(nil)); err != nil || !cmp.Equal(a, again, cmpopts.EquateEmpty()) {
				t.Fatalf("ack %+v became %+v, %v", a, again, err)
			}
		}
		if c, err := DecodeControl(b); err == nil {
			if again, err := DecodeControl(c.Append(nil)); err != nil || !cmp.Equal(c, again, cmpopts.EquateEmpty()) {
				t.Fatalf("control %+v became %+v, %v", c, again, err)
			}
		}
		DecodeHello(b)
		DecodeEnrolRequest(b)
		DecodeEnrolAnswer(b)
	})
}

// goldenReport is a report of the first release. It must decode for ever.
var goldenReport, _ = hex.DecodeString("11027856341280908cfcd563a09c010703904e904e00030880d905b40800240063046574683005c8010a010305362e362e31")
