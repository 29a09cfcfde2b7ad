package soc

import (
	"errors"
	"os"
	"strings"
	"testing"
	"unsafe"

	"periph.io/x/conn/v3/physic"
)

// TestCommand compares the message with vcgencmd's, word by word.
func TestCommand(t *testing.T) {
	var c command
	c.set("measure_clock arm and more than fits in the next one")
	c.set("get_throttled")
	if unsafe.Sizeof(c) != 1024+7*4 {
		t.Errorf("%d bytes", unsafe.Sizeof(c))
	}
	for i, want := range []uint32{1024 + 7*4, 0, 0x00030080, 1024, 0, 0} {
		if c[i] != want {
			t.Errorf("word %d is 0x%x, want 0x%x", i, c[i], want)
		}
	}
	text := c.text()
	if got := string(text[:14]); got != "get_throttled\x00" || c[len(c)-1] != 0 {
		t.Errorf("text %q, end 0x%x", got, c[len(c)-1])
	}
	for i, b := range text[14:] {
		if b != 0 {
			t.Fatalf("byte %d behind the text is %q", i, b)
		}
	}
}

// answered is a command as the firmware gives it back.
func answered(text string) *command {
	var c command
	c.set("get_throttled")
	clear(c.text())
	c[1], c[4] = 0x80000000, 0x80000000|uint32(4+len(text)+1)
	copy(c.text(), text)
	return &c
}

func TestCommandAnswers(t *testing.T) {
	f := func(question int, text string, want answer, ok bool) {
		t.Helper()
		var a answer
		err := answered(text).take(&a, questions[question].take)
		if (err == nil) != ok || a != want || err != nil && !errors.Is(err, errAnswer) {
			t.Errorf("%q: %+v, %v", text, a, err)
		}
	}
	hertz := func(v int64) answer { return answer{clock: physic.Frequency(v) * physic.Hertz, hasClock: true} }
	f(0, "frequency(48)=600117184", hertz(600_117_184), true) // 3B and later
	f(0, "frequency(45)=1000000000\n", hertz(1e9), true)      // Zero
	f(0, "frequency(0)=2400032256", hertz(2_400_032_256), true)
	f(0, "frequency(48)=0", answer{}, false)
	f(0, "frequency(48)=-5", answer{}, false)
	f(0, "frequency(48)=600117184 Hz", answer{}, false)
	f(0, "frequency=600117184", answer{}, false)
	f(0, `error=2 error_msg="Invalid arguments"`, answer{}, false)
	f(1, "throttled=0x50005", answer{throttled: 0x50005, hasThrottled: true}, true)
	f(1, "throttled=0x0", answer{hasThrottled: true}, true)
	f(1, "throttled=", answer{}, false)
	f(1, "0x50005", answer{}, false)
	f(2, "volt=1.3188V", answer{voltage: 1_318_800 * physic.MicroVolt, hasVoltage: true}, true)
	f(2, "volt=0.8700V", answer{voltage: 870 * physic.MilliVolt, hasVoltage: true}, true)
	f(2, "volt=0.0000V", answer{}, false)
	f(2, "volt=1.3188", answer{}, false)
	f(2, "volt=-1.2V", answer{}, false)
	f(2, "volt=9999999V", answer{}, false)
	f(2, "", answer{}, false)

	broken := func(name string, spoil func(*command)) {
		t.Helper()
		c := answered("throttled=0x0")
		spoil(c)
		var a answer
		if err := c.take(&a, questions[1].take); !errors.Is(err, errAnswer) || a.hasThrottled {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	broken("not answered", func(c *command) { c[4] = 0 })
	broken("refused", func(c *command) { c[1] = 0x80000001 })
	broken("another tag", func(c *command) { c[2] = tagThrottled })
	broken("an error", func(c *command) { c[5] = 1 })
	broken("no end", func(c *command) {
		for i := range c.text() {
			c.text()[i] = 'x'
		}
	})
}

// TestCommandAnswersOfRealBoards reads vcgencmd's answers on real boards, where they lie beside the
// source: in each row measure_clock arm is the eighth column from the end, then others,
// measure_volts, measure_temp, get_throttled.
func TestCommandAnswersOfRealBoards(t *testing.T) {
	const path = "../../../shared/data/vcgencmd/scrooge_snapshots.csv"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Skip("no answers of real boards: ", err)
	}
	rows := strings.Fields(string(b))
	for _, row := range rows {
		cells := strings.Split(row, ",")
		cells = cells[len(cells)-8:]
		var a answer
		for i, text := range []string{"frequency(48)=" + cells[0], "throttled=" + cells[7], "volt=" + cells[5] + "V"} {
			if err := answered(text).take(&a, questions[i].take); err != nil {
				t.Errorf("%s: %v", row, err)
			}
		}
		if a.clock < 500*physic.MegaHertz || a.clock > 2*physic.GigaHertz || a.voltage < 800*physic.MilliVolt || a.voltage > 1400*physic.MilliVolt {
			t.Errorf("%s: %v, %v", row, a.clock, a.voltage)
		}
	}
	if len(rows) < 100 {
		t.Errorf("%d rows", len(rows))
	}
}

func FuzzCommandAnswer(f *testing.F) {
	f.Add(0, []byte("frequency(48)=600117184"))
	f.Add(1, []byte("throttled=0x50005"))
	f.Add(2, []byte("volt=1.3188V"))
	f.Add(1, []byte(`error=1 error_msg="Command not registered"`))
	f.Fuzz(func(t *testing.T, question int, b []byte) {
		q := questions[uint(question)%uint(len(questions))]
		var a answer
		err := answered(string(b)).take(&a, q.take)
		if has := a.hasClock || a.hasThrottled || a.hasVoltage; has == (err != nil) {
			t.Errorf("%q: %+v, %v", b, a, err)
		}
		if a.hasClock && a.clock <= 0 || a.hasVoltage && a.voltage <= 0 {
			t.Errorf("%q: %+v", b, a)
		}
	})
}
