package daemon

import "testing"

func TestHowMuchGarbageMayWait(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 3200}, {1 << 20, 3200}, {8 << 20, 400}, {32 << 20, 100}, {400 << 20, 100},
	} {
		if got := gcPercent(c.live); got != c.want {
			t.Errorf("with %d octets in use: %d %%, want %d %%", c.live, got, c.want)
		}
	}
}
