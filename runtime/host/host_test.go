package host_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/sdk/abi"
)

func TestRecordsPassThroughEveryGuest(t *testing.T) {
	records := []abi.Record{
		{Offset: 7, Timestamp: 1000, Key: []byte("k"), Value: []byte("v"),
			Headers: abi.AppendHeader(abi.AppendHeader(nil, "a", []byte("1")), "null", nil), HeaderCount: 2},
		{Offset: 8, Timestamp: 2000},
		{Offset: 9, Timestamp: -1, Key: []byte{}, Value: []byte{}},
	}
	want := []output{
		{input: 0, timestamp: 1000, key: "k", value: "v", headers: "a=1 null=<null>"},
		{input: 1, timestamp: 2000, key: "<null>", value: "<null>"},
		{input: 2, timestamp: -1, key: "", value: ""},
	}
	for _, guest := range []struct {
		name  string
		build func() ([]byte, error)
	}{{"go", buildGo}, {"tinygo", buildTinyGo}, {"c", buildC}} {
		t.Run(guest.name, func(t *testing.T) {
			i := mustInstantiate(t, built(t, guest.build), host.Limits{}, oneOutput("identity"), nil)
			for range 3 {
				got, result, err := run(t.Context(), i, host.Batch{}, records...)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
				if result.OutputCount != 3 || len(result.Rejects) != 0 || result.Fuel <= 0 {
					t.Errorf("got %d outputs, rejects %v, fuel %d", result.OutputCount, result.Rejects, result.Fuel)
				}
			}
		})
	}
}

func TestGuestSeesItsWorld(t *testing.T) {
	eachGoGuest(t, func(t *testing.T, wasm []byte) {
		setup := oneOutput("describe")
		setup.Inputs = []string{"a", "b"}
		setup.Assets = map[string][]byte{"words": []byte("uno,dos")}
		var lines logLines
		i := mustInstantiate(t, wasm, host.Limits{}, setup, lines.add)
		got, _, err := run(t.Context(), i, host.Batch{Input: 1, Partition: 3}, abi.Record{
			Offset: 12, Value: []byte{}, Headers: abi.AppendHeader(nil, "h", []byte("x")), HeaderCount: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		want := `b/3@12 1700000000000 null=true,false h="x",false asset=uno,dos`
		if len(got) != 1 || got[0].value != want {
			t.Errorf("got  %v\nwant %s", got, want)
		}
		if want := (logLines{"INFO ready as d"}); !reflect.DeepEqual(lines, want) {
			t.Errorf("got lines %q, want %q", lines, want)
		}
	})
}

func TestRejectedRecordsTakeTheirOutputsAlong(t *testing.T) {
	eachGoGuest(t, func(t *testing.T, wasm []byte) {
		i := mustInstantiate(t, wasm, host.Limits{}, oneOutput("words"), nil)
		// The second and the third value make the guest flush in mid-record: its
		// output area has as many bytes as the input, its entries have more.
		const words = 4000
		long := strings.Repeat("word ", words)
		got, result, err := run(t.Context(), i, host.Batch{},
			value("one two"), value(long+"bad"), value(long), value("bad"), value("end"))
		if err != nil {
			t.Fatal(err)
		}
		want := []host.Reject{{Index: 1, Reason: "a bad word"}, {Index: 3, Reason: "a bad word"}}
		if !reflect.DeepEqual(result.Rejects, want) {
			t.Errorf("got rejects %v, want %v", result.Rejects, want)
		}
		if len(got) != 2+words+1 || result.OutputCount != len(got) {
			t.Errorf("got %d outputs, %d were announced, want %d", len(got), result.OutputCount, 40_003)
		}
		if last := got[len(got)-1]; last.value != "end" || last.input != 4 {
			t.Errorf("got %v at the end", last)
		}
	})
}

func TestOutputsGoWhereTheyAreSent(t *testing.T) {
	eachGoGuest(t, func(t *testing.T, wasm []byte) {
		setup := oneOutput("route")
		setup.Outputs = []string{"es", "fr"}
		i := mustInstantiate(t, wasm, host.Limits{}, setup, nil)
		got, result, err := run(t.Context(), i, host.Batch{},
			abi.Record{Key: []byte("fr"), Timestamp: 5}, abi.Record{Key: []byte("de")}, abi.Record{Key: []byte("es")})
		if err != nil {
			t.Fatal(err)
		}
		want := []output{
			{input: 0, index: 1, timestamp: 4242, key: "fr", value: "<null>", headers: "seen=<null>"},
			{input: 2, index: 0, timestamp: 4242, key: "es", value: "<null>", headers: "seen=<null>"},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if len(result.Rejects) != 1 || !strings.Contains(result.Rejects[0].Reason, "es, fr") {
			t.Errorf("got rejects %v, want one that names the outputs there are", result.Rejects)
		}
	})
}

func TestEntriesLargerThanTheOutputAreaPass(t *testing.T) {
	eachGoGuest(t, func(t *testing.T, wasm []byte) {
		i := mustInstantiate(t, wasm, host.Limits{FuelPerCall: 1_000_000_000}, oneOutput("large"), nil)
		got, _, err := run(t.Context(), i, host.Batch{}, value("a"), value(strings.Repeat("b", 3000)), value("c"))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 3 || len(got[0].value) != 1000 || len(got[1].value) != 3_000_000 || got[2].value[0] != 'c' {
			t.Errorf("got %d outputs", len(got))
		}
	})
}

func TestTimeAndRandomnessComeFromTheBatch(t *testing.T) {
	eachGoGuest(t, func(t *testing.T, wasm []byte) {
		draw := func(seed uint64) (wall, random string) {
			i := mustInstantiate(t, wasm, host.Limits{}, oneOutput("world"), nil)
			got, _, err := run(t.Context(), i, host.Batch{Seed: seed}, value(""))
			if err != nil {
				t.Fatal(err)
			}
			wall, random, _ = strings.Cut(got[0].value, " ")
			return wall, random
		}
		wall, random := draw(1)
		if again, randomAgain := draw(1); again != wall || randomAgain != random {
			t.Errorf("same batch, different results: %s %s and %s %s", wall, random, again, randomAgain)
		}
		if _, other := draw(2); other == random && strings.HasSuffix(t.Name(), "/go") {
			t.Errorf("seeds 1 and 2 both give %s", random)
		}
		got, err := time.Parse(time.RFC3339Nano, wall)
		want := time.UnixMilli(1_700_000_000_000).Add(time.Hour)
		if err != nil || got.Sub(want).Abs() > time.Millisecond {
			t.Errorf("got %s (%v): want the batch's time and the hour slept, %s", wall, err, want.UTC())
		}
	})
}

func TestSetupRefusesTheConfiguration(t *testing.T) {
	eachGoGuest(t, func(t *testing.T, wasm []byte) {
		_, err := instantiate(t, wasm, host.Limits{}, oneOutput("no\x1bsense"), nil)
		var refused *host.SetupError
		if !errors.As(err, &refused) || refused.Message != "config mode=no sense: unknown" {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatGuestsPrintAreLines(t *testing.T) {
	eachGoGuest(t, func(t *testing.T, wasm []byte) {
		var lines logLines
		i := mustInstantiate(t, wasm, host.Limits{LogLineBytes: 40}, oneOutput("print"), lines.add)
		lines = nil
		if _, _, err := run(t.Context(), i, host.Batch{}, value("one\ntwo"), value(" and more\n"), value(strings.Repeat("é", 30))); err != nil {
			t.Fatal(err)
		}
		want := logLines{
			"INFO one", "ERROR logged one two", "INFO two and more", "ERROR logged  and more",
			"ERROR logged " + strings.Repeat("é", 16) + "…", "INFO " + strings.Repeat("é", 20) + "…",
		}
		if !reflect.DeepEqual(lines, want) {
			t.Errorf("got  %q\nwant %q", lines, want)
		}
	})
}
