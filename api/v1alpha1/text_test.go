package v1alpha1

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestBytesAreShortForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "0", 0: "0", 1023: "1023", 1024: "1Ki", 4096: "4Ki", 1536 << 20: "1.5Gi", 10 << 30: "10Gi",
		1<<30 - 1: "1023.9Mi", 1 << 40: "1Ti", math.MaxInt64: "7.9Ei",
	} {
		if got := BytesText(n); got != want {
			t.Errorf("BytesText(%d) is %s, want %s", n, got, want)
		}
	}
}

func TestLongTextsAreCutBetweenRunes(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "0123456789": "0123456789", "0123456789a": "012345 …", "01234ä6789": "01234 …", "0123ä56789": "0123ä …",
	} {
		if got := Brief(text, 10); got != want {
			t.Errorf("%q is cut to %q, want %q", text, got, want)
		}
	}
	for most := 4; most < 40; most++ {
		if got := Brief(strings.Repeat("ä…a", 20), most); len(got) > most || !utf8.ValidString(got) {
			t.Errorf("cut to %d bytes: %q", most, got)
		}
	}
}
