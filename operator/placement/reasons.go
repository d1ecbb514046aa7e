package placement

import (
	"fmt"
	"slices"
	"strings"
)

// maxReasons bounds the candidates that a message tells of: events and conditions are for reading.
const maxReasons = 12

// NoRoomError says why a Shard's Replicas cannot be placed.
type NoRoomError struct{ Message string }

// Error is the message, for people.
func (e *NoRoomError) Error() string { return e.Message }

func (p *Planner) noRoom(r *Request) error {
	reasons := []string{p.domains(r)}
	for i := range p.devices {
		if why := p.whyNot(r, &p.devices[i]); why != "" {
			reasons = append(reasons, fmt.Sprintf("node %s: device %s: %s", p.devices[i].Node, p.devices[i].Name, why))
		}
	}
	reasons = slices.DeleteFunc(reasons, func(s string) bool { return s == "" })
	if more := len(reasons) - maxReasons; more > 0 {
		reasons = append(reasons[:maxReasons], fmt.Sprintf("and %d more", more))
	}
	return &NoRoomError{Message: strings.Join(reasons, "; ")}
}

// domains says that there are too few, if so, whatever their space.
func (p *Planner) domains(r *Request) string {
	var seen []string
	for i := range p.devices {
		seen = append(seen, p.devices[i].Domain)
	}
	slices.Sort(seen)
	seen = slices.Compact(seen)
	wanted := r.Count + len(r.Taken)
	if len(seen) >= wanted {
		return fmt.Sprintf("pool %s: no room for %d replicas of %s on different %s",
			r.Pool, r.Count, Bytes(r.Size), domainWord(r.DomainLabel))
	}
	verb := "have"
	if len(seen) == 1 {
		verb = "has"
	}
	return fmt.Sprintf("pool %s: %s %s Devices, %d replicas wanted",
		r.Pool, count(len(seen), domainWord(r.DomainLabel)), verb, wanted)
}

func domainWord(label string) string {
	if label == "" {
		return "nodes"
	}
	return "values of " + label
}

func count(n int, plural string) string {
	if n == 1 {
		plural = strings.Replace(plural, "nodes", "node", 1)
		plural = strings.Replace(plural, "values of", "value of", 1)
	}
	return fmt.Sprintf("%d %s", n, plural)
}

// whyNot says what keeps the Device from taking a Replica of this Shard; empty if nothing does.
func (p *Planner) whyNot(r *Request, d *Device) string {
	switch {
	case slices.Contains(r.Taken, d.Domain):
		return "another replica of the shard is on this " + domainOne(r.DomainLabel)
	case d.Refusal != "":
		return d.Refusal
	case r.Refusals[d.Name] != "":
		return r.Refusals[d.Name]
	case d.Free < r.Size:
		return fmt.Sprintf("%s free of %s needed", Bytes(d.Free), Bytes(r.Size))
	}
	return ""
}

func domainOne(label string) string {
	if label == "" {
		return "node"
	}
	return "value of " + label
}

// Bytes is a size for people.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", max(n, 0))
	}
	value, name := float64(n), 0
	names := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for value >= unit && name < len(names)-1 {
		value /= unit
		name++
	}
	return fmt.Sprintf("%.1f %s", value, names[name])
}
