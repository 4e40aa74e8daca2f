package subject

import (
	"strings"
	"testing"

	"github.com/millstream-io/millstream/sdk/go/transform"
)

func TestText(t *testing.T) {
	full := transform.Record{Key: []byte("k"), Value: []byte(`{"a":{"b":"x\ny"},"n":1.50,"z":null}`), Headers: transform.NewHeaders("h", "1", "h", "2")}
	full.Headers.Add("null", nil)
	tests := []struct {
		on, want string
		found    bool
	}{
		{"key", "k", true},
		{"value", string(full.Value), true},
		{"header:h", "2", true},
		{"header:null", "", false},
		{"header:none", "", false},
		{"field:a.b", "x\ny", true},
		{"field:a", `{"b":"x\ny"}`, true},
		{"field:n", "1.50", true},
		{"field:z", "null", true},
		{"field:none", "", false},
	}
	for _, tt := range tests {
		s, err := Parse(tt.on)
		if err != nil {
			t.Fatal(err)
		}
		text, found, err := s.Text(full)
		if string(text) != tt.want || found != tt.found || err != nil {
			t.Errorf("%s: %q, %v, %v; want %q, %v", tt.on, text, found, err, tt.want, tt.found)
		}
		if text, found, err := s.Text(transform.Record{}); len(text) != 0 || found || err != nil {
			t.Errorf("%s of an empty record: %q, %v, %v", tt.on, text, found, err)
		}
	}
	s, err := Parse("field:a")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Text(transform.Record{Value: []byte("{")}); err == nil || !strings.Contains(err.Error(), "not JSON") {
		t.Errorf("a value that is not JSON: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, on := range []string{"", "body", "key:x", "value:", "field", "field:", "header", "header:"} {
		if _, err := Parse(on); err == nil || !strings.Contains(err.Error(), "config on="+on) {
			t.Errorf("Parse(%q): %v", on, err)
		}
	}
}
