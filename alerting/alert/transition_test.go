package alert

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTransitionJSON(t *testing.T) {
	in := Transition{Rule: "g/A", Series: "b", Labels: map[string]string{"z": "1", "a": "2"}, State: Cooling, From: Firing, At: 3, Since: 1, FiredAt: 2, Received: 4, Value: Value(math.Inf(1))}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"rule":"g/A","series":"b","labels":{"a":"2","z":"1"},"from":"firing","state":"cooling","at":3,"since":1,"fired_at":2,"received":4,"value":"+Inf"}`
	if string(b) != want {
		t.Errorf("got %s", b)
	}
	out, err := DecodeTransition(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(in, out); d != "" {
		t.Error(d)
	}
}
