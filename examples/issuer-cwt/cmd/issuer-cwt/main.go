// Command issuer-cwt is a plug-in of signet's: the daemon starts it.
package main

import (
	cwt "github.com/signetd/signet/examples/issuer-cwt"
	"github.com/signetd/signet/plugins/serve"
)

func main() { serve.Main(cwt.New()) }
