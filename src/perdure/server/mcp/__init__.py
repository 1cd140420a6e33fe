"""The Model Context Protocol: what agents are offered, and the door by which they come.

`offering` says in plain data what a server offers: tools, resources, prompts. `protocol` makes a server of the `mcp`
package from it, which speaks every revision of the protocol; `door` serves that over HTTP, `stdio` over standard input.
The package is loaded when the first agent comes, so a server without any pays nothing for it.
"""

from __future__ import annotations
