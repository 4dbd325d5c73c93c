package daemon

import "testing"

func TestHowMuchGarbageMayWait(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 1600}, {1 << 20, 1600}, {8 << 20, 200}, {16 << 20, 100}, {400 << 20, 100},
	} {
		if got := gcPercent(c.live); got != c.want {
			t.Errorf("with %d octets in use: %d %%, want %d %%", c.live, got, c.want)
		}
	}
}
