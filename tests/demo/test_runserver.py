"""`manage.py runserver`, looked at with a browser while its code is edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.demo.browser import Browser
from tests.django.developing import FILES, ROUTED, Runserver, make_project
from tests.house.serving import free_port

pytestmark = pytest.mark.timeout(60)

PAGE = """<!doctype html><link rel=stylesheet href=/static/site.css>
<h1>WORDS</h1><p id=state>connecting</p><ul id=said></ul>
<script>
let times = 0;
function open() {
    const socket = new WebSocket(`ws://${location.host}/echo/`);
    socket.onopen = () => { times += 1; socket.send(`connected ${times}`); };
    socket.onmessage = event => {
        state.textContent = event.data;
        said.insertAdjacentHTML("beforeend", `<li>${event.data}</li>`);
    };
    socket.onclose = event => { state.textContent = `closed ${event.code}`; setTimeout(open, 100); };
}
open();
</script>"""


def test_a_page_while_its_code_is_edited(tmp_path: Path, browser: Browser) -> None:
    """Its style is there, its socket talks; after an edit the socket is back and the text new."""
    project = make_project(tmp_path)
    views = FILES["site1/views.py"].replace('"first"', f'"""{PAGE}"""')
    (project / "site1/views.py").write_text(views.replace("WORDS", "Before the edit"))
    with (project / "site1/settings.py").open("a") as settings:
        settings.write(ROUTED)
    port = free_port()
    running = Runserver(project, str(port))
    try:
        running.port()
        with browser.open(f"http://127.0.0.1:{port}/") as page:
            page.wait("window.state?.textContent === 'connected 1'")
            assert page.run("getComputedStyle(document.querySelector('h1')).color") == (
                "rgb(1, 2, 3)"
            )
            routing = FILES["site1/routing.py"].replace(
                "reply(message.text)", "reply(f'{message.text}!')"
            )
            (project / "site1/routing.py").write_text(routing)
            running.edit("site1/views.py", views.replace("WORDS", "After the edit"))
            page.wait("window.state?.textContent === 'connected 2!'", 15)
            assert page.run("document.querySelector('h1').textContent") == "Before the edit"
            page.call("Page.reload")
            page.wait("document.querySelector('h1')?.textContent === 'After the edit'")
            page.wait("window.state?.textContent === 'connected 1!'")

            page.call("Page.navigate", url=f"http://127.0.0.1:{port}/boom")
            page.wait("document.querySelector('h1')?.innerText.includes('LookupError')")
            assert "so it goes" in page.run("document.querySelector('.exception_value').innerText")
    finally:
        running.interrupt()
        running.end()
    assert "Traceback" not in running.text().replace("Internal Server Error: /boom\nTraceback", "")
