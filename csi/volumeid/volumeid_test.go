package volumeid

import (
	"strings"
	"testing"
)

func TestNamesOfObjectsStayAsTheyAre(t *testing.T) {
	for _, name := range []string{"pvc-0b7c", "a", "9", strings.Repeat("x", MaxID)} {
		if id, err := FromName(name); err != nil || id != name {
			t.Errorf("%q became %q, %v", name, id, err)
		}
	}
}

func TestOtherNamesGetTheirOwnID(t *testing.T) {
	seen := map[string]string{}
	names := []string{
		"Upper", "upper.", "-a", "a-", "a b", "ä", "../../etc/passwd", "a\x00", strings.Repeat("x", MaxID+1),
		strings.Repeat("x", MaxName), "a.b", "v-00000000000000000000000000000000",
	}
	for _, name := range names {
		id, err := FromName(name)
		if err != nil || !IsValid(id) || id == name {
			t.Errorf("%q became %q, %v", name, id, err)
		}
		if other, taken := seen[id]; taken {
			t.Errorf("%q and %q are both %s", name, other, id)
		}
		seen[id] = name
		if again, _ := FromName(name); again != id {
			t.Errorf("%q became %q, then %q", name, id, again)
		}
	}
}

func TestTheHashOfAnotherNameCannotBeGiven(t *testing.T) {
	hash, err := FromName("Upper")
	if err != nil {
		t.Fatal(err)
	}
	if id, err := FromName(hash); err != nil || id == hash {
		t.Errorf("the name %q became %q, %v: it would be the volume of another name", hash, id, err)
	}
}

func TestImpossibleNamesAreRefused(t *testing.T) {
	for _, name := range []string{"", strings.Repeat("x", MaxName+1)} {
		if id, err := FromName(name); err == nil {
			t.Errorf("%q became %q", name, id)
		}
	}
}

func FuzzFromName(f *testing.F) {
	for _, name := range []string{"pvc-1", "Upper", "", "a/b", "v-00000000000000000000000000000000"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		id, err := FromName(name)
		if (err == nil) != (name != "" && len(name) <= MaxName) {
			t.Fatalf("%q: %v", name, err)
		}
		if err == nil && !IsValid(id) {
			t.Fatalf("%q became %q, which is no id", name, id)
		}
	})
}
