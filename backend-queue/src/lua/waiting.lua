-- How many runs wait: all that are neither under way nor have ended.
return call('HLEN', RUN) - call('ZCARD', LEASE) - call('ZCARD', ENDED) - call('ZCARD', LETTERS)
