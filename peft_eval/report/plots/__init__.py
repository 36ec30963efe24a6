"""The plots, as Vega-Lite specifications; their records come from `peft_eval.report.plot_data`."""
