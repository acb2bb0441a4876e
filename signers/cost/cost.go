// Package cost is what a cloud's key service was asked for, and what that costs
// by its price list. It estimates: the service's bill rules.
package cost

import (
	"strings"
)

// AsOf is the month in which the prices were read: of AWS's page, which had no
// date, and of Google's, whose prices are from 2025-03-17. In US dollars,
// without free tiers and discounts, of the regions that cost least. What AWS
// takes for a request was not confirmed on that page: check it before you budget.
//
//   - https://aws.amazon.com/kms/pricing/
//   - https://cloud.google.com/kms/pricing
const AsOf = "2026-03"

// A Price is what one key costs.
type Price struct {
	Month   float64 // to keep it
	Request float64 // to use it once
}

const perTenThousand = 1.0 / 10_000

// AWSRequest is the price of a request that uses no asymmetric key.
const AWSRequest = 0.03 * perTenThousand

// AWS is the price of a key by its KeySpec.
func AWS(spec string) Price {
	if spec == "RSA_2048" {
		return Price{1, 0.03 * perTenThousand}
	}
	return Price{1, 0.15 * perTenThousand}
}

// GCP is the price of a version by the names of its protection level and its
// algorithm: the first 2,000 in the HSM cost as much as this. What is not known
// is priced as the dearest, so that an estimate is no promise too low.
func GCP(protection, algorithm string) Price {
	switch {
	case protection == "SOFTWARE":
		return Price{0.06, 0.03 * perTenThousand}
	case strings.HasPrefix(protection, "EXTERNAL"):
		return Price{3, 0.03 * perTenThousand}
	case strings.HasPrefix(algorithm, "RSA_") && strings.Contains(algorithm, "_2048_"):
		return Price{1, 0.03 * perTenThousand}
	}
	return Price{2.5, 0.15 * perTenThousand}
}
