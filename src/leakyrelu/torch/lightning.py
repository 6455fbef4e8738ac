"""Adapter for Lightning: a watch as a callback. Lightning is imported when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leakyrelu._extras import require
from leakyrelu.torch.diagnosis.watcher import watch

if TYPE_CHECKING:
    from leakyrelu.diagnosis.report import Report

__all__ = ["watch_callback"]


def watch_callback(*, every: int = 50, **options: Any) -> Any:
    """Make a callback that watches the module in `fit` and logs the share of silent units of each layer.

    Its attribute ``census`` is the `leakyrelu.torch.watch`, with the report and the history, also after the fit.

    Parameters
    ----------
    every, options
        As for `leakyrelu.torch.watch`.

    Raises
    ------
    ImportError
        Neither `lightning` nor `pytorch_lightning` is installed.
    """
    base: Any = require("lightning.pytorch", "pytorch_lightning", by="the callback").Callback

    class WatchCallback(base):  # type: ignore[misc]
        census: watch | None = None

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            def log(step: int, report: Report) -> None:
                shares = {
                    f"silent/{layer.name}": len(layer.silent_units) / max(layer.units, 1) for layer in report.layers
                }
                for logger in trainer.loggers:
                    logger.log_metrics(shares, step)

            writers = options.get("to")
            others = writers if isinstance(writers, list | tuple) else [writers]
            self.census = watch(pl_module, every=every, **{**options, "to": [log, *others]})
            self.census.__enter__()

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            if self.census is not None:
                self.census.__exit__(None, None, None)

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self.on_fit_end(trainer, pl_module)

    return WatchCallback()
